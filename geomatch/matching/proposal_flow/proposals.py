"""Boxes that may hold objects, made without reading the image: sliding windows and random boxes.

Boxes are (left, top, right, bottom) in pixels, (B, 4) float64 for B of them. Their sides lie between pixels: a box
round a whole image of W x H runs from -1/2 to W - 1/2 and H - 1/2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from geomatch.geometry.boxes import Boxes

BORDER: Final = 0.01
"""The outer share of each side of an image that no box of Proposal Flow touches."""

WINDOW_SCALES: Final = (0.2, 0.3, 0.45, 0.675)
"""Sides of square sliding windows, as shares of the geometric mean of the image's sides."""

WINDOW_ASPECTS: Final = (0.5, 1.0, 2.0)
"""Width over height of sliding windows."""

SAMPLED_SCALES: Final = (0.08, 0.8)
"""Range of the square root of a random box's area, as a share of that of the image's."""

SAMPLED_ASPECTS: Final = (2 / 3, 3 / 2)
"""Range of width over height of random boxes."""


def whole_image(image_size: tuple[int, int]) -> Boxes:
    """The box (1, 4) round an image of (height, width)."""
    return np.array([[-0.5, -0.5, image_size[1] - 0.5, image_size[0] - 0.5]])


def inside_border(boxes: Boxes, image_size: tuple[int, int], border: float = BORDER) -> Boxes:
    """Those of boxes (B, 4) that keep off the outer ``border`` of an image (height, width), a share of each side."""
    span = np.array((image_size[1], image_size[0]) * 2, np.float64)
    inner = span * (border, border, 1 - border, 1 - border) - 0.5
    slack = 1e-9 * span
    kept = (boxes[:, :2] >= (inner - slack)[:2]).all(axis=1) & (boxes[:, 2:] <= (inner + slack)[2:]).all(axis=1)
    return np.asarray(boxes[kept], np.float64)


def thinned(boxes: Boxes, count: int) -> Boxes:
    """At most ``count`` of boxes (B, 4), evenly spaced in their order.

    If boxes are sorted by size, the same share of large and of small ones is kept.
    """
    kept = min(count, len(boxes))
    return np.asarray(boxes[np.arange(kept) * len(boxes) // max(kept, 1)], np.float64)


def sliding_windows(
    image_size: tuple[int, int],
    scales: Sequence[float] = WINDOW_SCALES,
    aspects: Sequence[float] = WINDOW_ASPECTS,
    stride: float = 0.45,
    border: float = BORDER,
) -> Boxes:
    """Boxes (B, 4) of several sizes and shapes spread evenly over an image of (height, width); B is about 500.

    A window of scale s and aspect a is s L sqrt(a) wide and s L / sqrt(a) high, with L = sqrt(height width). Along
    either axis windows are spaced evenly, by at most ``stride`` of their side, from edge to edge of the image without
    its ``border``, a share of each side: Proposal Flow drops boxes that touch the outer 1 %. Windows that do not fit
    are left out. Order: by scale, aspect, top, left.
    """
    height, width = image_size
    side = float(np.sqrt(height * width))
    boxes: list[Boxes] = [np.zeros((0, 4))]
    for scale in scales:
        for aspect in aspects:
            window = side * scale * np.sqrt(aspect), side * scale / np.sqrt(aspect)
            left = _window_starts(width, window[0], stride, border)
            top = _window_starts(height, window[1], stride, border)
            y, x = (grid.ravel() for grid in np.meshgrid(top, left, indexing="ij"))
            boxes.append(np.stack((x, y, x + window[0], y + window[1]), axis=1))
    return np.concatenate(boxes)


def _window_starts(length: int, window: float, stride: float, border: float) -> NDArray[np.float64]:
    """Where windows of one size begin along an axis of ``length`` pixels; none if it does not fit."""
    free = length * (1 - 2 * border) - window
    first = length * border - 0.5
    if free < 0:
        return np.zeros(0)
    return np.linspace(first, first + free, 1 + int(np.ceil(free / (stride * window))))


def uniform_boxes(image_size: tuple[int, int], count: int, seed: int) -> Boxes:
    """At most ``count`` random boxes (B, 4) of an image of (height, width); the same for the same seed.

    Their centres are uniform, and so are the logarithms of their aspects and of the square roots of their areas. 20
    times as many are drawn; the first ``count`` that do not touch the outer border are kept. In Hosang et al. (PAMI
    2016) the square root itself is uniform; such boxes are mostly too large to separate an object's parts.
    """
    height, width = image_size
    random = np.random.default_rng(seed)
    centre = random.random((20 * count, 2)) * (width, height) - 0.5
    (smallest, largest), (narrow, wide) = map(math.log, SAMPLED_SCALES), map(math.log, SAMPLED_ASPECTS)
    side = np.exp(random.uniform(smallest, largest, (20 * count, 1))) * math.sqrt(height * width)
    stretch = np.exp(random.uniform(narrow, wide, (20 * count, 1)) / 2)
    half = np.hstack((side * stretch, side / stretch)) / 2
    return inside_border(np.hstack((centre - half, centre + half)), image_size)[:count]
