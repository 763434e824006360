"""Portable float maps: three float32 channels, rows from the bottom up."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

_HEAD = re.compile(rb"(PF|Pf)\s+(\d{1,9})\s+(\d{1,9})\s+([-+.\deE]{1,20})\s")


def encode_pfm(values: NDArray[np.float32]) -> bytes:
    """Values (H, W, 3) as a little-endian colour map of scale 1."""
    height, width, _ = values.shape
    return f"PF\n{width} {height}\n-1.0\n".encode() + values[::-1].astype("<f4").tobytes()


def decode_pfm(content: bytes) -> NDArray[np.float32]:
    """The values (H, W, 3) of a colour map, in its own scale. Raises ValueError."""
    head = _HEAD.match(content)
    if not head or head[1] != b"PF":
        raise ValueError("not a .pfm file of three channels")
    width, height = int(head[2]), int(head[3])
    try:
        order = "<f4" if float(head[4]) < 0 else ">f4"
    except ValueError:
        raise ValueError("its scale is not a number") from None
    if min(width, height) < 1 or len(content) - head.end() != 12 * width * height:
        raise ValueError(f"its size does not fit the {width}x{height} pixels it claims")
    values = np.frombuffer(content, order, offset=head.end()).reshape(height, width, 3)
    return values[::-1].astype(np.float32)
