"""Whether keypoints show that two pictures see their objects from opposite sides. A pure function of arrays."""

from __future__ import annotations

import numpy as np

from geomatch.annotations import Points

FEWEST_POINTS = 3
"""A similarity with a reflection and one without both take any two points to any two others."""


def seen_from_opposite_sides(source: Points, target: Points) -> bool | None:
    """Whether a similarity with a reflection takes keypoints (K, 2) to their partners (K, 2) better than one without.

    Better is the smaller sum of squared distances. None if there are too few points to tell. With positions relative to
    their mean as complex numbers z and w, the two sums are |w|^2 - |sum(conj(z) w)|^2 / |z|^2 without a reflection, and
    |w|^2 - |sum(z w)|^2 / |z|^2 with one.

    >>> points = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 1.0]])
    >>> seen_from_opposite_sides(points, points * 2), seen_from_opposite_sides(points, points * [-2, 2])
    (False, True)
    """
    if len(source) < FEWEST_POINTS:
        return None
    z, w = ((points - points.mean(axis=0)) @ np.array([1, 1j]) for points in (source, target))
    return bool(abs((z * w).sum()) > abs((z.conj() * w).sum()))
