"""Pixels of more than 8 bits a channel, and fractions, in 8 bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_TAIL = 1
"""Per cent of the values at each end that may be clipped when contrast is stretched."""
_ENOUGH = 1 / 4
"""Share of the full range that an image has to fill so that it is not stretched: 64 of 256 levels."""
_MOST_SAMPLES = 1_000_000


def to_eight_bits(values: NDArray[np.generic]) -> tuple[NDArray[np.uint8], str]:
    """Values of any shape as 0 to 255, and what was done to them beyond a change of units, "" if nothing.

    Integers are taken for 16-bit values; fractions for [0, 1] or, if some are larger, for [0, 255]. If the values leave
    this range, or fill less than `_ENOUGH` of it without the extreme `_TAIL` per cent, they are stretched from these
    extremes to 0 and 255. Values that are not finite become 0.
    """
    numbers = values.astype(np.float64)
    finite = np.isfinite(numbers)
    said = [] if finite.all() else [f"{finite.size - finite.sum()} values are NaN or infinite and are shown black"]
    known = numbers[finite]
    if not known.size:
        return np.zeros(values.shape, np.uint8), "".join(said)
    least, most = known.min(), known.max()
    full = 65535.0 if values.dtype.kind in "iu" else 1.0 if most <= 1 else 255.0
    low, high = np.percentile(known[:: 1 + known.size // _MOST_SAMPLES], (_TAIL, 100 - _TAIL))
    if low == high:  # nearly all are the same, and the others are what matters
        low, high = least, most
    if least == most or (least >= 0 and most <= full and high - low >= _ENOUGH * full):
        low, high = 0.0, full
    else:
        said.append(f"values {low:.6g} to {high:.6g} are stretched to 0 to 255")
    numbers[~finite] = low
    scaled = (np.clip(numbers, low, high) - low) * (255 / (high - low))
    return np.round(scaled).astype(np.uint8), ", ".join(said)
