"""Annotations that were drawn on a photograph as it is stored, turned as EXIF says it is to be seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from geomatch.annotations import Box, Instance, Keypoints, Points, Region
from geomatch.io.annotations.points import box_between

UPRIGHT = 1
"""EXIF's orientation of an image that is stored upright, or whose file does not say."""


def swaps_sides(orientation: int) -> bool:
    """Whether an image of this EXIF orientation is stored with its height across."""
    return 5 <= orientation <= 8


def turn_upright(instance: Instance, orientation: int, size: tuple[int, int]) -> Instance:
    """An instance on the stored image moved to the upright one, of ``size`` (height, width).

    orientation: EXIF's, 5 to 8: the image is mirrored in its main diagonal (5), turned to the right (6), mirrored in
    its other diagonal (7) or turned to the left (8).
    """
    match instance.shape:
        case Keypoints() as keypoints:
            return replace(instance, shape=replace(keypoints, points=_turn_points(keypoints.points, orientation, size)))
        case Region() as region:
            return replace(instance, shape=replace(region, mask=_turn_mask(region.mask, orientation)))
        case box:
            return replace(instance, shape=_turn_box(box, orientation, size))


def _turn_points(points: Points, orientation: int, size: tuple[int, int]) -> Points:
    height, width = size
    x, y = points[:, 1], points[:, 0]
    flipped_x, flipped_y = orientation in (6, 7), orientation in (7, 8)
    return np.stack((width - 1 - x if flipped_x else x, height - 1 - y if flipped_y else y), axis=1)


def _turn_mask(mask: NDArray[np.bool_], orientation: int) -> NDArray[np.bool_]:
    turned = mask.T
    turned = turned[:, ::-1] if orientation in (6, 7) else turned
    return np.ascontiguousarray(turned[::-1] if orientation in (7, 8) else turned)


def _turn_box(box: Box, orientation: int, size: tuple[int, int]) -> Box:
    first, second = _turn_points(np.array(box, dtype=np.float64).reshape(2, 2), orientation, size).tolist()
    return box_between(first, second)
