"""PNG of 16 bits a channel with several channels, which Pillow reads at 8 bits only (KITTI's flow files).

PNG specification, third edition: sections 5 (chunks), 9 (filtering), 11.2 (IHDR, IDAT).
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from geomatch.io.formats.png import SIGNATURE

_COLOUR_TYPE_RGB = 2
_BYTES_PER_PIXEL = 6
_MAX_SIDE = 1 << 16  # longer than any image's; undoing filters takes a step for each row and column


def decode_rgb16(content: bytes, max_pixels: int) -> NDArray[np.uint16]:
    """The pixels (H, W, 3) uint16 of a PNG file of 16-bit RGB.

    Raises ValueError, saying what is wrong, if it is another file, damaged, or has more than ``max_pixels``.
    """
    if not content.startswith(SIGNATURE):
        raise ValueError("not a PNG file")
    header = b""
    pieces: list[bytes] = []
    position = len(SIGNATURE)
    while position + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, position)
        kind, data = content[position + 4 : position + 8], content[position + 8 : position + 8 + length]
        if kind == b"IHDR":
            header = data
        elif kind == b"IDAT":
            pieces.append(data)
        position += 12 + length
    if len(header) != 13:
        raise ValueError("no PNG header")
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if (depth, colour, interlaced) != (16, _COLOUR_TYPE_RGB, 0):
        raise ValueError("not a 16-bit RGB PNG without interlacing")
    if not 0 < width * height <= max_pixels:
        raise ValueError(f"{width}x{height} pixels is more than the limit of {max_pixels}")
    if max(width, height) > _MAX_SIDE:
        raise ValueError(f"{width}x{height} pixels: a side is longer than {_MAX_SIDE}")
    size = height * (1 + width * _BYTES_PER_PIXEL)
    try:
        raw = zlib.decompressobj().decompress(b"".join(pieces), size)
    except zlib.error as error:
        raise ValueError("damaged PNG data") from error
    if len(raw) != size:
        raise ValueError("incomplete PNG data")
    filtered = np.frombuffer(raw, dtype=np.uint8).reshape(height, -1)
    if filtered[:, 0].max() > 4:
        raise ValueError("damaged PNG data")
    rows = _undo_filters(filtered[:, 0], filtered[:, 1:].reshape(height, width, _BYTES_PER_PIXEL))
    return rows.reshape(height, -1).view(">u2").reshape(height, width, 3).astype(np.uint16)


def _undo_filters(kinds: NDArray[np.uint8], filtered: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Reverse PNG's row filters on (H, W, bytes of a pixel).

    A byte depends on those to its left, above, and above left, so all bytes with equal row + column can be restored
    at once: the sweep runs over anti-diagonals instead of single bytes.
    """
    height, width, _ = filtered.shape
    restored = np.zeros((height + 1, width + 1, filtered.shape[2]), dtype=np.int16)  # a border of zeros
    for diagonal in range(height + width - 1):
        row = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        column = diagonal - row
        left, above, corner = restored[row + 1, column], restored[row, column + 1], restored[row, column]
        kind = kinds[row][:, None]
        estimate = left + above - corner
        to_left, to_above, to_corner = (np.abs(estimate - near) for near in (left, above, corner))
        paeth = np.where(
            (to_left <= to_above) & (to_left <= to_corner), left, np.where(to_above <= to_corner, above, corner)
        )
        predicted = np.select(
            [kind == 1, kind == 2, kind == 3, kind == 4], [left, above, (left + above) // 2, paeth], 0
        )
        restored[row + 1, column + 1] = (filtered[row, column] + predicted) & 0xFF
    return restored[1:, 1:].astype(np.uint8)
