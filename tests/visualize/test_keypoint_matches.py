import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from geomatch.visualize.colours import keypoint_colours
from geomatch.visualize.keypoint_matches import DENSITY, HEIGHT, MARGIN, draw_keypoint_matches

SIDE = 100
SCALE = HEIGHT / SIDE
RED, GREEN, GREY = (235, 33, 46, 255), (46, 204, 113, 255), (120, 120, 120, 255)
ON_TARGET = HEIGHT + MARGIN  # the sources here are as wide as high


def photograph(side: int = SIDE) -> Tensor:
    return torch.full((3, side, side), 120, dtype=torch.uint8)


def points(*positions: tuple[float, float]) -> NDArray[np.float64]:
    return np.array(positions, dtype=np.float64)


def pixel(picture: Image.Image, position: tuple[float, float], left: float = 0) -> object:
    """The colour at a position of a photograph that begins ``left`` page pixels after the first margin."""
    x, y = ((value + 0.5) * SCALE + MARGIN for value in position)
    return picture.getpixel((int(DENSITY * (x + left)), int(DENSITY * y)))


def draw_one(correct: bool, predicted: tuple[float, float] = (80, 50)) -> Image.Image:
    """One point at (25, 60) of the source, sent to ``predicted``, that belongs at (20, 50)."""
    truth = points((20, 50))
    return draw_keypoint_matches(
        photograph(), photograph(), points((25, 60)), points(predicted), truth, np.array([correct])
    )


def test_keypoint_matches_layout() -> None:
    picture = draw_keypoint_matches(
        photograph(40), photograph(), points((5, 5)), points((9, 9)), points((9, 9)), np.array([True])
    )
    assert picture.size == (DENSITY * (2 * HEIGHT + 3 * MARGIN), DENSITY * (HEIGHT + 2 * MARGIN))
    assert pixel(picture, (90, 90)) == GREY
    assert pixel(picture, (90, 90), left=ON_TARGET) == GREY
    opacity = picture.getchannel("A")
    assert [opacity.getpixel(corner) for corner in ((0, 0), (picture.width - 1, picture.height - 1))] == [0, 0]


@pytest.mark.parametrize("correct", [True, False])
def test_keypoint_matches_dots_at_source_and_predicted_points(correct: bool) -> None:
    picture = draw_one(correct)
    colour = keypoint_colours(1)[0]
    beside_the_number = 5 / SCALE
    assert pixel(picture, (25 + beside_the_number, 60)) == colour
    assert pixel(picture, (80 + beside_the_number, 50), left=ON_TARGET) == colour


@pytest.mark.parametrize(("correct", "colour"), [(True, GREEN), (False, RED)])
def test_keypoint_matches_line_colour_shows_correctness(correct: bool, colour: tuple[int, ...]) -> None:
    assert pixel(draw_one(correct), (50, 50), left=ON_TARGET) == colour


def test_keypoint_matches_ring_at_true_point() -> None:
    picture = draw_one(correct=False)
    in_the_ring = 9.3 / SCALE  # its middle: a dot's radius of 7, 3.6 to the ring's outside, less half its 2.6
    assert pixel(picture, (20 - in_the_ring, 50), left=ON_TARGET) == keypoint_colours(1)[0]
    assert pixel(picture, (20 - 4 / SCALE, 50), left=ON_TARGET) == GREY


def test_keypoint_matches_clips_points_to_the_target() -> None:
    picture = draw_one(correct=False, predicted=(900, 50))
    assert pixel(picture, (SIDE - 1 - 5 / SCALE, 50), left=ON_TARGET) == keypoint_colours(1)[0]


def test_keypoint_matches_does_not_change_its_inputs() -> None:
    pixels = [photograph(), photograph()]
    arrays = [points((25, 60)), points((900, 50)), points((20, 50))]
    correct = np.array([False])
    draw_keypoint_matches(pixels[0], pixels[1], arrays[0], arrays[1], arrays[2], correct)
    assert all(torch.equal(image, photograph()) for image in pixels)
    assert [array.tolist() for array in arrays] == [[[25, 60]], [[900, 50]], [[20, 50]]]
    assert correct.tolist() == [False]


@pytest.mark.parametrize("count", [1, 21, 200])
def test_keypoint_matches_takes_any_number_of_points(count: int) -> None:
    places = np.random.default_rng(count).uniform(0, SIDE - 1, (3, count, 2))
    picture = draw_keypoint_matches(photograph(), photograph(), *places, correct=np.arange(count) % 2 == 0)
    assert len(np.unique(np.array(picture).view(np.uint32))) > 10


@pytest.mark.parametrize("count", [1, 2, 10, 60, 200])
def test_keypoint_colours_are_distinct(count: int) -> None:
    assert len(set(keypoint_colours(count))) == count
