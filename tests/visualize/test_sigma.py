import numpy as np
import pytest
import torch
from PIL import Image

from geomatch.visualize.colours import confidence_picture
from geomatch.visualize.sheet import Tile
from geomatch.visualize.sigma import LEGEND, MARGIN, PICTURE, draw_sigma_sheet, overlay_sigma, sigma_scale, sigma_tile
from tests.conftest import random_features


def tile(name: str, sigma: np.ndarray, grey: int = 120) -> Tile:
    height, width = sigma.shape
    return Tile(name, Image.new("RGB", (width, height), (grey,) * 3), sigma[None].astype(np.float32))


def test_sigma_tile_is_read_at_the_small_picture_s_pixels() -> None:
    """Cells of 50 pixels whose sigma is their column; four small pixels stand for one of them, in either axis."""
    features = random_features(4, 8, cell=100, sigma=1.0)
    features.inverse_confidence.copy_(torch.arange(8.0).expand(4, 8))  # type: ignore[union-attr]
    small = sigma_tile("a", torch.zeros(3, 400, 800, dtype=torch.uint8), features)
    assert small.picture.size == (PICTURE[0], PICTURE[0] // 2)
    position = (np.arange(PICTURE[0]) + 0.5) * 800 / PICTURE[0] / 100 - 0.5  # in cells
    np.testing.assert_allclose(small.maps[0], np.tile(position.clip(0, 7), (PICTURE[0] // 2, 1)), atol=1e-4)


def test_sigma_tile_refuses_features_without_sigma() -> None:
    with pytest.raises(ValueError, match="no sigma"):
        sigma_tile("a", torch.zeros(3, 40, 40, dtype=torch.uint8), random_features(4, 4))


def test_overlay_sigma_small_is_pale_large_is_dark() -> None:
    drawn = np.asarray(overlay_sigma(tile("a", np.array([[0.1, 0.2, 0.3, 9.0]])), (0.1, 0.3))).astype(int)[0]
    ramp = np.asarray(confidence_picture(np.array([[1, 0.5, 0, 0]], np.float32))).astype(int)[0]
    np.testing.assert_allclose(drawn, 0.7 * ramp + 0.3 * 120, atol=1.5)
    assert drawn[0].sum() > drawn[1].sum() > drawn[2].sum()


def test_sigma_scale_is_shared_by_the_sheet() -> None:
    low, high = tile("a", np.full((50, 50), 0.1)), tile("b", np.full((50, 50), 0.5))
    assert sigma_scale([low, high]) == pytest.approx((0.1, 0.5))
    sheet = draw_sigma_sheet([low, high])
    bottom = LEGEND + PICTURE[1] - 25
    right_of_photograph = MARGIN + PICTURE[0] + MARGIN // 2 + 25
    pale, dark = (
        np.array(sheet.getpixel((right_of_photograph + shift, bottom))).sum()
        for shift in (0, 2 * PICTURE[0] + 2 * MARGIN)
    )
    assert pale > dark + 200


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (5, 3, 2), (20, 4, 5)])
def test_sigma_sheet_reading_order_in_four_columns(count: int, columns: int, rows: int) -> None:
    tiles = [tile(f"{k}.png", np.full((PICTURE[1], PICTURE[0]), 0.1 + k / 100), grey=10 * k) for k in range(count)]
    sheet = draw_sigma_sheet(tiles)
    width, height = 2 * PICTURE[0] + 2 * MARGIN, (sheet.height - LEGEND - MARGIN) // rows
    assert sheet.width == columns * width + MARGIN
    for k in range(count):
        at = MARGIN + k % columns * width + 5, LEGEND + k // columns * height + 5
        assert sheet.getpixel(at) == (10 * k,) * 3


def test_sigma_sheet_of_constant_sigma_and_long_name() -> None:
    sheet = draw_sigma_sheet([tile("x" * 300 + ".png", np.full((30, 40), 0.2))])
    caption = np.asarray(sheet)[
        LEGEND + PICTURE[1] : LEGEND + PICTURE[1] + 22, MARGIN + PICTURE[0] : MARGIN + PICTURE[0] + 8
    ]
    assert (caption == 255).all()  # the name is cut before it reaches what stands beside it
