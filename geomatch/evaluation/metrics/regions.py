"""Measures of region matching (Proposal Flow, Ham et al., CVPR 2016, section 4.2). Pure functions of arrays.

Boxes are (B, 4) float64, (left, top, right, bottom) in pixels; areas are (right - left)(bottom - top).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geomatch.evaluation.metrics.ratios import WeightedRatios
from geomatch.geometry.boxes import Boxes, box_iou

REGION_THRESHOLDS: Final = tuple(step / 100 for step in range(101))
"""The thresholds of 1 - IoU of a PCR curve: 0, .01, ... 1."""


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
