import numpy as np
import pytest
import torch
from PIL import Image

from geomatch.geometry.grid import Grid
from geomatch.visualize.colours import keypoint_colours
from geomatch.visualize.responses import (
    CAPTION,
    GAP,
    HEADING,
    PICTURE,
    channels_of_sure_cells,
    draw_peaks,
    draw_response_sheet,
    overlay_response,
    response_scales,
)
from geomatch.visualize.sheet import MARGIN, Tile
from tests.conftest import random_features

RED = (255, 0, 0, 255)


def row(responses: np.ndarray, grey: int = 100, name: str = "a") -> Tile:
    """A grey photograph of the size of its maps (C, height, width)."""
    return Tile(name, Image.new("RGB", responses.shape[:0:-1], (grey,) * 3), responses.astype(np.float32))


def test_tile_is_read_at_the_small_picture_s_pixels() -> None:
    """Cells of 40 pixels that respond by their column, on a photograph of 320 x 160 shown at half its size."""
    maps = torch.stack([torch.arange(8.0).expand(4, 8), torch.zeros(4, 8)])
    small = Tile.read("a", torch.zeros(3, 160, 320, dtype=torch.uint8), maps, Grid.over((160, 320), 4, 8), PICTURE)
    assert small.picture.size == (PICTURE[0], 80) == (160, 80)
    position = (np.arange(160) + 0.5) / 20 - 0.5  # in cells
    np.testing.assert_allclose(small.maps[0], np.tile(position.clip(0, 7), (80, 1)), atol=1e-4)
    assert not small.maps[1].any()


def test_response_scales_are_median_and_maximum_of_all_rows() -> None:
    first, second = np.zeros((2, 1, 3)), np.zeros((2, 1, 2))
    first[0], second[0] = [[1, 2, 3]], [[4, 9]]
    assert response_scales([row(first), row(second)]) == [(3, 9), (0, 0)]


def test_overlay_response_is_grey_up_to_the_median() -> None:
    responses = np.array([[[0.5, 1, 2, 3, 5]]])
    drawn = np.asarray(overlay_response(row(responses), 0, RED, (1, 3))).astype(int)[0]
    light = 100 + 0.3 * 155
    share = 0.9 * np.array([0, 0, 0.5, 1, 1])[:, None]
    np.testing.assert_allclose(drawn, share * np.array(RED[:3]) + (1 - share) * light, atol=1.5)


def test_overlay_response_of_a_constant_channel_is_grey() -> None:
    flat = row(np.full((1, 4, 4), 0.7))
    assert np.ptp(np.asarray(overlay_response(flat, 0, RED, response_scales([flat])[0]))) == 0


def test_draw_peaks_draws_dots_and_nothing_else() -> None:
    responses = np.zeros((2, 60, 90))
    responses[0, 20, 30] = responses[1, 45, 70] = 1
    colours = keypoint_colours(2)
    drawn = np.asarray(draw_peaks(row(responses), colours)).astype(int)
    np.testing.assert_array_equal(drawn[20, 30], colours[0][:3])
    np.testing.assert_array_equal(drawn[45, 70], colours[1][:3])
    y, x = np.indices((60, 90))
    far = (np.hypot(y - 20, x - 30) > 8) & (np.hypot(y - 45, x - 70) > 8)
    assert (drawn[far] == 100).all()


@pytest.mark.parametrize(("channels", "photographs"), [(1, 1), (3, 2), (8, 5)])
def test_response_sheet_rows_are_photographs(channels: int, photographs: int) -> None:
    """Each channel fires on the upper left quarter of one photograph only, in one column and one row."""
    responses = np.zeros((photographs, channels, 40, 60))
    for channel in range(channels):
        responses[channel % photographs, channel, :20, :30] = 1
    rows = [row(each, grey=20 * k, name=f"{k}.png") for k, each in enumerate(responses)]
    sheet = np.asarray(draw_response_sheet("cat", [f"filter {k}" for k in range(channels)], rows)).astype(int)
    colours = keypoint_colours(channels)
    assert sheet.shape[1] == 2 * MARGIN + (1 + channels) * 60 + channels * GAP
    for number in range(photographs):
        top = HEADING + number * (40 + CAPTION)
        assert (sheet[top + 35, MARGIN + 55] == 20 * number).all()
        for channel in range(channels):
            corner = sheet[top + 10, MARGIN + (channel + 1) * (60 + GAP) + 15]
            if channel % photographs == number:
                np.testing.assert_allclose(corner, 0.9 * np.array(colours[channel][:3]), atol=0.1 * 255)
            else:
                assert np.ptp(corner) == 0


def test_response_sheet_draws_sigma_beside_the_photograph() -> None:
    """Sigma is pale in the row where it is small and dark in the other; channels follow in the next column."""
    responses = np.zeros((2, 1, 40, 60))
    responses[0, 0, :20] = 1
    rows = [row(each) for each in responses]
    sigmas = [row(np.full((1, 40, 60), sigma)) for sigma in (0.1, 0.3)]
    sheet = np.asarray(draw_response_sheet("phi", ["channel 5"], rows, sigmas)).astype(int)
    assert sheet.shape[1] == 2 * MARGIN + 3 * 60 + 2 * GAP
    tops = [HEADING + number * (40 + CAPTION) for number in range(2)]
    pale, dark = (sheet[top + 10, MARGIN + 60 + GAP + 30].sum() for top in tops)
    assert pale > dark + 200
    coloured, plain = (np.ptp(sheet[top + 10, MARGIN + 2 * (60 + GAP) + 30]) for top in tops)
    assert coloured > 100
    assert plain == 0


def test_channels_of_sure_cells_ignores_strong_unsure_ones() -> None:
    """Channel 1 is the strongest, where sigma is large; channel 2 responds where it is small, channel 0 everywhere."""
    features = random_features(4, 4, channels=3, sigma=1.0)
    features.inverse_confidence[0] = 0.1  # type: ignore[index]
    features.descriptors[:] = torch.tensor([0.5, -1.0, 0.0])[:, None, None]
    features.descriptors[1, 1:], features.descriptors[2, 0] = 0.9, 0.3
    assert channels_of_sure_cells([features], 2) == [2, 0]
    assert channels_of_sure_cells([features, features], 9) == [2, 0, 1]
    with pytest.raises(ValueError, match="no sigma"):
        channels_of_sure_cells([random_features(4, 4)], 1)


def test_response_sheet_centres_narrow_photographs() -> None:
    rows = [row(np.zeros((1, 30, 80))), row(np.zeros((1, 80, 40)), grey=10)]
    sheet = np.asarray(draw_response_sheet("cat", ["filter 0"], rows))
    line = sheet[HEADING + 30 + CAPTION + 40, : MARGIN + 80]
    assert (line[MARGIN : MARGIN + 20] == 255).all()
    assert (line[MARGIN + 20 : MARGIN + 60] == 10).all()
    assert (line[MARGIN + 60 :] == 255).all()


def test_response_sheet_truncates_long_names() -> None:
    sheet = np.asarray(draw_response_sheet("cat", ["filter 0"], [row(np.zeros((1, 30, 60)), name="x" * 300)]))
    assert (sheet[HEADING + 30 : HEADING + 30 + CAPTION, MARGIN + 60 :] == 255).all()
