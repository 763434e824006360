"""Measures of region matching (Proposal Flow, Ham et al., CVPR 2016, section 4.2). Pure functions of arrays.

Boxes are (B, 4) float64, (left, top, right, bottom) in pixels; areas are (right - left)(bottom - top).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from scipy.special import xlogy

from geomatch.annotations import Box, Points
from geomatch.evaluation.metrics.ratios import WeightedRatios
from geomatch.matching.proposal_flow.proposals import Boxes

REGION_THRESHOLDS: Final = tuple(step / 100 for step in range(101))
"""The thresholds of 1 - IoU of a PCR curve: 0, .01, ... 1."""

MIN_INSIDE: Final = 0.75
"""The share of a box that must lie inside the object's box."""

_SINGULAR: Final = 1e-10
"""Singular values of the spline's equations, relative to the largest, that are treated as zero."""


@dataclass(frozen=True)
class ThinPlateSpline:
    """A thin-plate spline, the smoothest map of the plane through point pairs (Bookstein, PAMI 1989).

    ``f(p) = A (1, q) + sum_k w_k U(|q - q_k|)`` with U(r) = r^2 log r^2, sum w_k = 0 and sum w_k q_k = 0, where
    q = (p - centre) / scale. The scale does not change f; it keeps the equations well conditioned.

    centre: (2,) pixels. scale: pixels. knots: (K, 2). weights: (K, 2). affine: (3, 2), rows for 1, x and y.
    """

    centre: NDArray[np.float64]
    scale: float
    knots: NDArray[np.float64]
    weights: NDArray[np.float64]
    affine: NDArray[np.float64]

    @classmethod
    def fit(cls, source: Points, target: Points) -> ThinPlateSpline:
        """The spline that maps ``source`` (K, 2) to ``target`` (K, 2), in pixels of the two images.

        Fewer than three points, or points on a line, do not determine the affine part. It is then the one nearest to
        the least-squares similarity of the pairs: one point gives a translation, two give a similarity. Points that
        coincide in ``source`` are mapped to the mean of their targets. Raises ValueError without points.
        """
        if len(source) == 0:
            raise ValueError("a thin-plate spline needs at least one pair of points")
        centre = source.mean(axis=0)
        scale = float(np.abs(source - centre).max()) or 1.0
        knots = (source - centre) / scale
        bending, linear = np.split(_spline_basis(knots, knots), [len(knots)], axis=1)
        system = np.block([[bending, linear], [linear.T, np.zeros((3, 3))]])
        start = np.vstack((np.zeros_like(knots), _least_squares_similarity(knots, target)))
        values = np.vstack((target, np.zeros((3, 2))))
        solution = start + np.linalg.lstsq(system, values - system @ start, rcond=_SINGULAR)[0]
        return cls(centre, scale, knots, solution[:-3], solution[-3:])

    def __call__(self, points: Points) -> Points:
        """Map points (N, 2) of the source image to (N, 2) float64 in the target image."""
        basis = _spline_basis((points - self.centre) / self.scale, self.knots)
        return np.asarray(basis @ np.vstack((self.weights, self.affine)), np.float64)


def _spline_basis(points: Points, knots: Points) -> NDArray[np.float64]:
    """The basis of a spline at points (N, 2): U of the distances to knots (K, 2), then 1, x, y: (N, K + 3)."""
    squared = cdist(points, knots, "sqeuclidean")
    return np.hstack((xlogy(squared, squared), np.ones((len(points), 1)), points))


def _least_squares_similarity(centred: Points, target: Points) -> NDArray[np.float64]:
    """The similarity that maps ``centred`` (K, 2) nearest to ``target``, as (3, 2) with rows for 1, x and y.

    In complex numbers: z' = mean z' + (conj z . z') / |z|^2 z. If all points coincide, it is a translation.
    """
    z, mapped = centred @ (1, 1j), target @ (1, 1j)
    length = float(np.vdot(z, z).real)
    turn = complex(np.vdot(z, mapped)) / length if length > 0 else 1 + 0j
    return np.vstack((target.mean(axis=0), (turn.real, turn.imag), (-turn.imag, turn.real)))


def valid_boxes(boxes: Boxes, object_box: Box, points: Points) -> NDArray[np.bool_]:
    """Which of boxes (B, 4) are on the object, (B,) bool: those that Proposal Flow and SCNet evaluate.

    More than 75 % of a box lies inside the object's box, and at least one keypoint of ``points`` (K, 2) lies in it or
    on its edge (crop_active_boxset.m). A box without area is not valid.
    """
    overlap = np.minimum(boxes[:, 2:], object_box[2:]) - np.maximum(boxes[:, :2], object_box[:2])
    area = _areas(boxes)
    on_object = (area > 0) & (overlap.clip(0).prod(axis=1) > MIN_INSIDE * area)
    x, y = points.T
    left, top, right, bottom = boxes.T[..., None]
    return np.asarray(on_object & ((x >= left) & (x <= right) & (y >= top) & (y <= bottom)).any(axis=1), np.bool_)


def warp_boxes(boxes: Boxes, warp: Callable[[Points], Points]) -> Boxes:
    """The boxes (B, 4) after their corners are moved by ``warp``, a map of points (N, 2) to points (N, 2).

    As in Proposal Flow, left and right are the means of the two smallest and the two largest x of the moved corners;
    top and bottom likewise. With a ThinPlateSpline through the keypoints this is the ground truth (the released code
    also clips its corners to the target image); with a dense flow it is the prediction.
    """
    corners = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    moved = np.sort(warp(corners.reshape(-1, 2)).reshape(-1, 4, 2), axis=1)
    return np.concatenate((moved[:, :2].mean(axis=1), moved[:, 2:].mean(axis=1)), axis=1)


def box_iou(first: Boxes, second: Boxes) -> NDArray[np.float64]:
    """The IoU of boxes, row by row: (B, 4), (B, 4) to (B,). 0 if neither has area."""
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    intersection = sides.clip(0).prod(axis=1)
    union = _areas(first) + _areas(second) - intersection
    return np.asarray(intersection / np.where(union > 0, union, 1), np.float64)


def _areas(boxes: Boxes) -> NDArray[np.float64]:
    return np.asarray((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), np.float64)


def mean_in_boxes(values: NDArray[np.floating], boxes: Boxes) -> NDArray[np.float64]:
    """The mean of a map (H, W) over the pixels whose centres lie in each box (B, 4): (B,), NaN for none."""
    height, width = values.shape
    table = np.zeros((height + 1, width + 1))
    table[1:, 1:] = np.cumsum(np.cumsum(values, axis=0), axis=1)
    first = np.clip(np.ceil(boxes[:, :2]), 0, (width, height)).astype(np.intp)
    last = np.clip(np.floor(boxes[:, 2:]) + 1, first, (width, height)).astype(np.intp)
    (left, top), (right, bottom) = first.T, last.T
    sums = table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]
    counts = (right - left) * (bottom - top)
    return np.asarray(np.divide(sums, counts, out=np.full(len(boxes), np.nan), where=counts > 0))


def probability_of_correct_regions(
    ious: NDArray[np.float64], thresholds: ArrayLike = REGION_THRESHOLDS
) -> NDArray[np.float64]:
    """PCR: the share of regions (B,) with 1 - IoU < tau, for each tau of ``thresholds`` (T,).

    Returns (T,) float64; 0 without regions, as in the released code of Proposal Flow and SCNet. (That of Proposal Flow
    plots each share one threshold, .01, too low.)
    """
    if len(ious) == 0:
        return np.zeros(np.shape(thresholds))
    below = np.searchsorted(np.sort(1 - ious), np.asarray(thresholds, np.float64), side="left")
    return np.asarray(below / len(ious), np.float64)


def best_iou(boxes: Boxes, candidates: Boxes) -> NDArray[np.float64]:
    """The largest IoU of each box (B, 4) with any of ``candidates`` (M, 4): (B,), 0 without candidates.

    For the true boxes of regions and all boxes of the target, it is the upper bound of matching.
    """
    best = np.zeros(len(boxes))
    for candidate in candidates:
        np.maximum(best, box_iou(boxes, np.broadcast_to(candidate, boxes.shape)), out=best)
    return best


def pooled_mean_iou(ranked: NDArray[np.float64]) -> WeightedRatios:
    """mIoU@k as SCNet has it: the mean over all regions that are among the k best of their pair, whatever the pair.

    ranked: (N, K), the IoU of the regions of N pairs, most confident first, NaN where a pair has fewer. The curve is
    that of mIoU@k; the area is by trapezoids over k = 1 .. K, divided by K - 1, so that it is a share.
    """
    weights = _trapezoids(ranked.shape[1]) / (ranked.shape[1] - 1)
    return WeightedRatios(np.nancumsum(ranked, axis=1), np.cumsum(np.isfinite(ranked), axis=1) * 1.0, weights)


def mean_iou_by_rank(ranked: NDArray[np.float64]) -> WeightedRatios:
    """mIoU@k as Proposal Flow's eva_PASCAL.m has it: the mean of k numbers, each the mean over the regions of one rank.

    ranked: as for `pooled_mean_iou`. The curve is that of the numbers, which are 0 for ranks that no pair has. The area
    is by trapezoids over k = 1 .. K, and at most K - 1: each number counts in mIoU@k of its rank and all after it.
    """
    ranks = np.arange(1, ranked.shape[1] + 1)
    weights = np.cumsum((_trapezoids(len(ranks)) / ranks)[::-1])[::-1]
    return WeightedRatios(np.nan_to_num(ranked), np.isfinite(ranked) * 1.0, weights)


def _trapezoids(count: int) -> NDArray[np.float64]:
    """Weights (count,), count > 1, of values at 1 .. count in the area under them."""
    return np.asarray([0.5, *[1.0] * (count - 2), 0.5], np.float64)


def area_under_curve(x: ArrayLike, y: ArrayLike) -> float:
    """AuC: the area under y (T,) over ascending x (T,) by trapezoids, divided by the range of x.

    >>> area_under_curve([0, 1, 3], [0.0, 1.0, 1.0])
    0.8333333333333334
    """
    positions, heights = np.asarray(x, np.float64), np.asarray(y, np.float64)
    area = np.diff(positions) @ (heights[1:] + heights[:-1]) / 2
    return float(area / (positions[-1] - positions[0]))
