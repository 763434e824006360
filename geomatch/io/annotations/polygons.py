"""Polygons to masks and back. A pixel belongs to a polygon if its centre lies inside."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geomatch.annotations import Points

TOLERANCE = 0.75
"""How far, in pixels, a polygon may deviate from the edges of the pixels: enough to make a slope of steps."""

_RIGHT, _DOWN, _LEFT, _UP = range(4)
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def fill(polygons: Sequence[Points], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels of an image of ``size`` (height, width) in any of the polygons (N, 2), which close themselves.

    The even-odd rule holds: what a polygon winds round twice is outside. Pixel centres are at integers.
    """
    mask = np.zeros(size, bool)
    for polygon in polygons:
        mask |= _fill_one(polygon, size)
    return mask


def _fill_one(polygon: Points, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels inside one polygon: along each row, every edge that is crossed leads in or out."""
    height, width = size
    crossings = np.zeros((height, width + 1), bool)
    for (from_x, from_y), (to_x, to_y) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        top, bottom = np.ceil(np.clip(sorted((from_y, to_y)), 0, height)).astype(int)
        rows = np.arange(top, bottom)
        if len(rows):
            x = from_x + (rows - from_y) * ((to_x - from_x) / (to_y - from_y))
            crossings[rows, np.ceil(np.clip(x, 0, width)).astype(int)] ^= True
    return np.logical_xor.accumulate(crossings, axis=1)[:, :width]


def trace(mask: NDArray[np.bool_]) -> list[Points]:
    """Polygons round the connected parts of a mask (H, W), largest first, within TOLERANCE of its edges.

    Holes are filled, since a list of polygons cannot have them.
    """
    parts = ndimage.label(np.pad(mask, 1))[0]
    polygons = []
    for number, box in enumerate(ndimage.find_objects(parts), 1):
        around = tuple(slice(axis.start - 1, axis.stop + 1) for axis in box)
        part = ndimage.binary_fill_holes(parts[around] == number)
        corner = np.array([box[1].start, box[0].start]) - 2.5  # of the part, which two borders of a pixel surround
        polygons.append((int(part.sum()), simplify(_walk_round(part) + corner, TOLERANCE)))
    return [polygon for _, polygon in sorted(polygons, key=lambda each: -each[0])]


def _walk_round(part: NDArray[np.bool_]) -> Points:
    """The corners (N, 2) of a part, clockwise, in edges of pixels from 0. The part has no holes and does not touch the
    border of its array; it always lies to the right of the walk."""
    y, x = (int(axis) for axis in np.unravel_index(int(part.argmax()), part.shape))
    start, direction = (x, y), _RIGHT
    corners: list[tuple[tuple[int, int], int]] = []
    while True:
        if not corners or direction != corners[-1][1]:
            corners.append(((x, y), direction))
        x, y = x + _STEPS[direction][0], y + _STEPS[direction][1]
        ahead_left, ahead_right = (part[y + dy, x + dx] for dx, dy in _AHEAD[direction])
        if not ahead_right:
            direction = (direction + 1) % 4
        elif ahead_left:
            direction = (direction - 1) % 4
        if (x, y) == start and direction == _RIGHT:
            return np.array([corner for corner, _ in corners], dtype=np.float64)


# The pixels ahead of a corner, left and right of the walk, as steps from the pixel whose upper left corner it is.
_AHEAD = (((0, -1), (0, 0)), ((0, 0), (-1, 0)), ((-1, 0), (-1, -1)), ((-1, -1), (0, -1)))


def simplify(polygon: Points, tolerance: float) -> Points:
    """A polygon (N, 2) without the corners that are at most ``tolerance`` from what is left (Douglas-Peucker).

    Returns the same polygon if only a line would be left.
    """
    far = int(np.linalg.norm(polygon - polygon[0], axis=1).argmax())
    closed = np.concatenate((polygon, polygon[:1]))
    kept = {0, far}
    open_stretches = [(0, far), (far, len(polygon))]
    while open_stretches:
        first, last = open_stretches.pop()
        between = closed[first + 1 : last] - closed[first]
        if not len(between):
            continue
        along = closed[last] - closed[first]
        share = np.clip(between @ along / max(along @ along, 1e-12), 0, 1)
        distance = np.linalg.norm(between - share[:, None] * along, axis=1)
        farthest = int(distance.argmax())
        if distance[farthest] > tolerance:
            middle = first + 1 + farthest
            kept.add(middle)
            open_stretches += [(first, middle), (middle, last)]
    return polygon[sorted(kept)] if len(kept) > 2 else polygon
