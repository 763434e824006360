import numpy as np
import torch
from PIL import Image
from torch import Tensor

from geomatch.annotations import AnnotatedImage, Box, Category, Instance, Keypoints, Region, Visibility
from geomatch.visualize.review import PANEL, draw_review
from geomatch.visualize.sheet import MARGIN

SIZE = (46, 56)
SCALE = PANEL[0] / SIZE[1]  # a photograph of this shape fills its panel
RIGHT = PANEL[0] + MARGIN
GREY = (120, 120, 120)


def photograph() -> Tensor:
    return torch.full((3, *SIZE), 120, dtype=torch.uint8)


def image(shape: Keypoints | Region | Box, visibility: Visibility = Visibility.seen) -> AnnotatedImage:
    return AnnotatedImage("a.jpg", SIZE, [Instance("cat", 1, shape, visibility)])


def keypoints(*visibility: int) -> Keypoints:
    points = np.array([[10.0, 10], [40, 10]])
    return Keypoints(("nose", "tail"), points, np.array(visibility))


def draw(carried: AnnotatedImage, categories: list[Category] | None = None) -> Image.Image:
    nothing = AnnotatedImage("ref.jpg", SIZE, [])
    return draw_review((photograph(), nothing), (photograph(), carried), categories or [], "confidence 0.50")


def pixel(picture: Image.Image, x: float, y: float, left: float = RIGHT) -> object:
    """The colour at a position of the photograph that begins ``left`` beyond the first margin."""
    return picture.getpixel((int(MARGIN + left + (x + 0.5) * SCALE), int(MARGIN + (y + 0.5) * SCALE)))


def test_review_keypoint_seen_is_dot_guessed_is_ring() -> None:
    seen, guessed, absent = (draw(image(keypoints(each, 0))) for each in (2, 1, 0))
    assert pixel(seen, 10, 10) != GREY
    assert pixel(guessed, 10, 10) == GREY
    assert guessed.tobytes() != absent.tobytes()
    assert pixel(absent, 10, 10) == pixel(seen, 40, 10) == GREY


def test_review_reference_is_on_the_left() -> None:
    picture = draw_review((photograph(), image(keypoints(2, 0))), (photograph(), image(keypoints(0, 2))))
    assert pixel(picture, 10, 10, left=0) != GREY
    assert pixel(picture, 10, 10) == GREY
    assert pixel(picture, 40, 10) != GREY


def test_review_skeleton_joins_present_points() -> None:
    cat = Category(1, "cat", ("nose", "tail"), ((1, 2),))
    assert pixel(draw(image(keypoints(2, 2)), [cat]), 25, 10) == (255, 255, 255)
    assert pixel(draw(image(keypoints(2, 0)), [cat]), 25, 10) == GREY
    assert pixel(draw(image(keypoints(2, 2))), 25, 10) == GREY


def test_review_mask_is_coloured_inside_alone() -> None:
    mask = np.zeros(SIZE, bool)
    mask[10:30, 10:40] = True
    picture = draw(image(Region(mask)))
    assert pixel(picture, 25, 20) != GREY
    assert pixel(picture, 5, 20) == pixel(picture, 25, 35) == GREY


def test_review_guessed_box_has_broken_outline() -> None:
    box = (10.0, 10.0, 40.0, 30.0)
    pictures = [draw(image(box, each)) for each in (Visibility.seen, Visibility.guessed)]
    edges = [{pixel(picture, x, 10.0) for x in np.linspace(12, 38, 80)} for picture in pictures]
    assert GREY not in edges[0]
    assert GREY in edges[1]
