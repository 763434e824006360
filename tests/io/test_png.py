"""PNG files written here hold what Pillow reads from them, whatever the kind of pixels and the level."""

import io

import numpy as np
import pytest
from PIL import Image

from geomatch.io.formats.png import encode_png


@pytest.mark.parametrize("level", [0, 1, 2, 9])
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (7, 1, 3), (6, 9, 3), (4, 5, 4)])
def test_encode_png_is_lossless(shape: tuple[int, ...], level: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with Image.open(io.BytesIO(encode_png(pixels, level))) as read:
        assert read.mode == {2: "L", 3: "RGB", 4: "RGBA"}[len(shape) if len(shape) == 2 else shape[2]]
        assert (np.asarray(read) == pixels).all()


@pytest.mark.parametrize("level", [0, 1, 6])
def test_encode_png_of_16_bits_is_lossless(level: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 1 << 16, (8, 5), np.uint16)
    with Image.open(io.BytesIO(encode_png(pixels, level))) as read:
        assert (np.asarray(read).astype(np.uint16) == pixels).all()


def test_encode_png_takes_parts_of_arrays() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    assert encode_png(pixels[::2, 1::3]) == encode_png(pixels[::2, 1::3].copy())


def test_encode_png_levels_trade_size_for_time() -> None:
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    stored, quick, small = (len(encode_png(smooth, level)) for level in (0, 1, 9))
    assert stored > smooth.size > 4 * max(quick, small)
