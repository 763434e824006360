"""Measures of dense correspondence: flow errors, transferred masks and parts. Pure functions of arrays.

Flows are (2, H, W) on the source's grid, x then y, in pixels: source pixel (x, y) matches target position
(x, y) + flow. Means over nothing are NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geomatch.annotations import Box, Points
from geomatch.datasets.pairs import Mask


def end_point_errors(flow: NDArray[np.floating], truth: NDArray[np.floating], known: Mask) -> NDArray[np.float64]:
    """Distances between two flows (2, H, W) at the N pixels ``known`` (H, W): (N,) float64 pixels, row-major order."""
    return np.asarray(np.hypot(*(flow[:, known].astype(np.float64) - truth[:, known])), np.float64)


def flow_accuracy(errors: NDArray[np.floating], image_size: tuple[int, int], alpha: float) -> float:
    """The share of end-point errors (N,) of at most ``alpha`` times the longer side of an image (height, width).

    The measure of TSS (Taniai, Sinha and Sato, CVPR 2016): errors of the foreground, relative to the target image; an
    alpha of .05 is their 5 pixels in images scaled to a longer side of 100. NaN without errors.

    >>> flow_accuracy(np.array([3.0, 30.0]), (240, 320), alpha=0.05)
    0.5
    """
    return float((errors <= alpha * max(image_size)).mean()) if len(errors) else float("nan")


def label_transfer_accuracy(transferred: Mask, truth: Mask) -> float:
    """LT-ACC (Kim et al., CVPR 2013): the share of pixels whose transferred label is correct; masks are (H, W)."""
    return float((transferred == truth).mean())


def intersection_over_union(first: Mask, second: Mask) -> float:
    """The IoU of two masks of the same shape; NaN if both are empty."""
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else float("nan")


def weighted_part_iou(transferred: Mask, truth: Mask) -> float:
    """The mean IoU of parts (P, H, W), weighted by the area of their unions (FlowWeb, Zhou et al., CVPR 2015).

    With w_p = union_p / sum_q union_q, ``sum_p w_p IoU_p`` is the sum of the intersections over the sum of the unions.
    0 if no part has a pixel, as of pairs without common parts. (WeakAlign's released code weights by the area in
    ``truth`` instead.)
    """
    return intersection_over_union(transferred, truth) if (transferred | truth).any() else 0.0


def foreground_box(mask: Mask) -> Box:
    """The box of a mask (H, W) for `localisation_error`: ``ObjPtr`` of DSP's released code.

    Returns (first column, first row, last column + 1, last row + 1) of the True pixels, so that width and height are
    in whole pixels. Raises ValueError for an empty mask.
    """
    row, column = np.nonzero(mask)
    if len(row) == 0:
        raise ValueError("a mask without foreground has no box")
    return float(column.min()), float(row.min()), float(column.max() + 1), float(row.max() + 1)


def localisation_error(source_positions: Points, target_positions: Points, source_box: Box, target_box: Box) -> float:
    """LOC-ERR (Kim et al., CVPR 2013): the mean of |dx| + |dy| between positions (N, 2) relative to the objects' boxes.

    A position becomes ((x - left) / (right - left), (y - top) / (bottom - top)) of its own image's `foreground_box`.
    To reproduce DSP's ``EvaluateCT101Match`` and WeakAlign's ``localization_error``, pass *every* source pixel whose
    match lies inside the target image, background included, with its match rounded to whole pixels. NaN without
    positions.
    """
    if len(source_positions) == 0:
        return float("nan")
    differences = _within_box(source_positions, source_box) - _within_box(target_positions, target_box)
    return float(np.abs(differences).sum(axis=1).mean())


def _within_box(positions: Points, box: Box) -> Points:
    corner, opposite = np.array(box[:2]), np.array(box[2:])
    return np.asarray((positions - corner) / (opposite - corner), np.float64)
