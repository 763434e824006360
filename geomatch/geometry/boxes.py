"""Bounding boxes: which lie on an object, where a map takes them, how far they overlap. Pure functions of arrays.

Boxes are (B, 4) float64, (left, top, right, bottom) in pixels; areas are (right - left)(bottom - top).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]
Points = NDArray[np.float64]

MIN_INSIDE: Final = 0.75
"""The share of a box that must lie inside the object's box."""


def valid_boxes(boxes: Boxes, object_box: tuple[float, float, float, float], points: Points) -> NDArray[np.bool_]:
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
    """The IoU of boxes (..., 4) and (..., 4), whose shapes are broadcast: (...). 0 if neither has area."""
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    intersection = sides.clip(0).prod(axis=-1)
    union = _areas(first) + _areas(second) - intersection
    return np.asarray(intersection / np.where(union > 0, union, 1), np.float64)


def _areas(boxes: Boxes) -> NDArray[np.float64]:
    return np.asarray((boxes[..., 2:] - boxes[..., :2]).prod(axis=-1), np.float64)
