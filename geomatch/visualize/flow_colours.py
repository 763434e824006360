"""Flow in the colours of the Middlebury benchmark (Baker et al., IJCV 2011): hue tells the direction, pale is short."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SPANS = (15, 6, 4, 11, 13, 6)
"""Steps between red, yellow, green, cyan, blue, magenta and red again: as even to the eye as they get."""
_CORNERS = ((255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255), (255, 0, 0))


def colour_wheel() -> NDArray[np.uint8]:
    """(55, 3): the colours round the wheel, from that of a flow to the left through up, right and down."""
    corners = np.array(_CORNERS, dtype=np.float64)
    spans = [
        corners[k] + np.arange(steps)[:, None] / steps * (corners[k + 1] - corners[k]) for k, steps in enumerate(_SPANS)
    ]
    wheel: NDArray[np.float64] = np.concatenate(spans)
    return wheel.astype(np.uint8)


def colour_flow(flow: NDArray[np.float32], longest: float) -> NDArray[np.uint8]:
    """Flow (2, ...) to colours (..., 3): white where nothing moves, full at the length ``longest``, dark beyond it."""
    wheel = colour_wheel().T.astype(np.float64)
    x, y = flow / max(longest, 1e-6)
    turn = (np.arctan2(-y, -x) / np.pi + 1) / 2 * (wheel.shape[1] - 1)
    step = np.floor(turn).astype(np.int64)
    share, following = turn - step, (step + 1) % wheel.shape[1]
    length = np.hypot(x, y)
    colours = np.empty((*length.shape, 3), dtype=np.uint8)
    for channel, shades in enumerate(wheel):  # one at a time takes half of what arrays of colours take
        full = (1 - share) * shades[step] + share * shades[following]
        colours[..., channel] = np.where(length <= 1, 255 - length * (255 - full), 0.75 * full)
    return colours
