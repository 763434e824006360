"""PNG of pictures, written quickly.

PNG specification, third edition: sections 5 (chunks), 9 (filtering), 11.2 (IHDR, IDAT). Pillow tries five filters on
each row, which takes longer than to compress it. Here each pixel is stored as its difference to the one on its left.
Of photographs that makes files a few per cent larger than Pillow's, in 2/5 of the time.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
QUICK: Final = 1
"""The level at which photographs are about as small as at any other."""

_COLOUR_TYPES = {1: 0, 3: 2, 4: 6}  # by the number of channels: grey, RGB, RGBA
_LEFT = 1
_MEMORY = 9


def encode_png(pixels: NDArray[np.uint8] | NDArray[np.uint16], level: int = QUICK) -> bytes:
    """Pixels (H, W) or (H, W, 3 or 4), grey, RGB or RGBA, uint8 or uint16, as the content of a PNG file.

    level: of zlib, 0 (stored) to 9. At 1 pixels of 8 bits are searched for runs only, which is quicker, and of
    photographs as good. The content depends on the pixels and the level alone.
    """
    height, width, channels = pixels.shape if pixels.ndim == 3 else (*pixels.shape, 1)
    depth = 8 * pixels.itemsize
    rows = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder(">")).view(np.uint8).reshape(height, -1)
    step = channels * pixels.itemsize
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _LEFT
    filtered[:, 1 : 1 + step] = rows[:, :step]
    np.subtract(rows[:, step:], rows[:, :-step], out=filtered[:, 1 + step :])
    strategy = zlib.Z_RLE if level == QUICK and depth == 8 else zlib.Z_DEFAULT_STRATEGY
    compressor = zlib.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS, _MEMORY, strategy)
    body = compressor.compress(filtered.data) + compressor.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, _COLOUR_TYPES[channels], 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
