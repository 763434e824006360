import pytest
import torch

from geomatch.matching.selective_search import selective_search
from tests.features.test_extractors import photograph


def test_boxes_are_in_pixels_of_the_image_and_find_a_thing_on_a_plain_ground() -> None:
    image = torch.full((3, 600, 800), 40, dtype=torch.uint8)
    image[:, 150:400, 200:500] = torch.tensor([220, 30, 30], dtype=torch.uint8)[:, None, None]
    boxes = selective_search(image, at_most=100)
    thing = torch.tensor([199.5, 149.5, 499.5, 399.5])
    # A pixel of the resized image is two of this one; the segmentation smooths the edges first.
    assert (boxes - thing).abs().amax(dim=1).min() <= 4
    assert boxes[0].tolist() == [-0.5, -0.5, 799.5, 599.5]


def test_boxes_are_distinct_sorted_by_area_and_thinned_alike_at_all_sizes_by_every_call() -> None:
    image = photograph(300, 400)
    boxes, few = (selective_search(image, at_most) for at_most in (10_000, 20))
    assert len(boxes) > 50
    assert len(boxes.unique(dim=0)) == len(boxes)
    sides = boxes[:, 2:] - boxes[:, :2]
    assert sides.min() > 0
    assert (sides.prod(dim=1).diff() <= 0).all()
    assert torch.equal(few, boxes[torch.arange(20) * len(boxes) // 20])


@pytest.mark.parametrize("size", [(1, 300), (50, 80)])
def test_an_image_without_texture_is_one_box(size: tuple[int, int]) -> None:
    boxes = selective_search(torch.full((3, *size), 77, dtype=torch.uint8), at_most=100)
    assert boxes.dtype == torch.float32
    torch.testing.assert_close(boxes, torch.tensor([[-0.5, -0.5, size[1] - 0.5, size[0] - 0.5]]))
