"""Measures of dense correspondence, as pure functions of arrays: flow error, transferred masks and parts.

Flows run from source to target, (2, H, W) on the source's grid, x then y, in pixels: the source's pixel (x, y)
corresponds to the target's position (x, y) + flow. Shares and means of nothing are NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geomatch.annotations import Box, Points
from geomatch.datasets.pairs import Mask


def end_point_errors(flow: NDArray[np.floating], truth: NDArray[np.floating], known: Mask) -> NDArray[np.float64]:
    """Distances in pixels between two flows (2, H, W), at the N pixels ``known`` (H, W), in row-major order.

    Returns (N,) float64. What the flows hold elsewhere is not looked at.
    """
    return np.asarray(np.hypot(*(flow[:, known].astype(np.float64) - truth[:, known])), np.float64)


def flow_accuracy(errors: NDArray[np.floating], image_size: tuple[int, int], alpha: float) -> float:
    """Share of end-point errors (N,) of at most ``alpha`` times the longer side of an image (height, width).

    The measure of TSS (Taniai, Sinha and Sato, CVPR 2016): ``errors`` are those of the foreground, the image is the one
    the flow leads into, and an alpha of .05 stands for their 5 pixels in images scaled to a longer side of 100. NaN
    without errors.
    """
    return float((errors <= alpha * max(image_size)).mean()) if len(errors) else float("nan")


def label_transfer_accuracy(transferred: Mask, truth: Mask) -> float:
    """LT-ACC: share of an image's pixels whose transferred label is right, (H, W) bool each (Kim et al., CVPR 2013)."""
    return float((transferred == truth).mean())


def intersection_over_union(first: Mask, second: Mask) -> float:
    """Jaccard index of two masks of one shape. NaN if both are empty."""
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else float("nan")


def weighted_part_iou(transferred: Mask, truth: Mask) -> float:
    """Mean IoU of parts (P, H, W) bool, each weighted by the area of its union (FlowWeb, Zhou et al., CVPR 2015).

    With w_p = union_p / sum_q union_q this is ``sum_p w_p IoU_p`` = the sum of the intersections over that of the
    unions. NaN if no part has a pixel. (WeakAlign's released code weights by the area in ``truth`` instead.)
    """
    return intersection_over_union(transferred, truth)


def foreground_box(mask: Mask) -> Box:
    """The frame of an object in which Caltech-101's localisation error is measured: ``ObjPtr`` of DSP's released code.

    mask: (H, W) bool. Returns (first column, first row, last column + 1, last row + 1) of its True pixels, so that
    width and height are in whole pixels. Raises ValueError if there is none.
    """
    row, column = np.nonzero(mask)
    if len(row) == 0:
        raise ValueError("a mask without foreground has no box")
    return float(column.min()), float(row.min()), float(column.max() + 1), float(row.max() + 1)


def localisation_error(source_positions: Points, target_positions: Points, source_box: Box, target_box: Box) -> float:
    """LOC-ERR: mean of |dx| + |dy| between corresponding positions (N, 2), each relative to its object's box.

    A position becomes ((x - left) / (right - left), (y - top) / (bottom - top)) of its own image's box, see
    ``foreground_box`` (Kim et al., CVPR 2013). DSP's ``EvaluateCT101Match`` and WeakAlign's ``localization_error``
    average over *every* source pixel that lands inside the target image, background included, at whole pixels; which
    positions to pass is the caller's affair. NaN without positions.
    """
    if len(source_positions) == 0:
        return float("nan")
    differences = _within_box(source_positions, source_box) - _within_box(target_positions, target_box)
    return float(np.abs(differences).sum(axis=1).mean())


def _within_box(positions: Points, box: Box) -> Points:
    corner, opposite = np.array(box[:2]), np.array(box[2:])
    return np.asarray((positions - corner) / (opposite - corner), np.float64)
