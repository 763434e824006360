"""The lengths that PCK thresholds are relative to. Pure functions of arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geomatch.annotations import Box, Points


def keypoint_extent(points: Points) -> float:
    """The longer side, in pixels, of the bounding box of keypoints (K, 2).

    >>> keypoint_extent(np.array([[10.0, 20.0], [50.0, 30.0]]))
    40.0
    """
    return float(np.ptp(points, axis=0).max())


def box_side(box: Box, scale: NDArray[np.float64]) -> float:
    """The longer side of a box after scaling by (x, y)."""
    left, top, right, bottom = box
    return float(max((right - left) * scale[0], (bottom - top) * scale[1]))
