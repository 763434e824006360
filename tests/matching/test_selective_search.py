import numpy as np
import pytest
import torch

from geomatch.matching.proposal_flow.selective_search import (
    FULL_SIZE,
    NARROWEST,
    full_selective_search,
    selective_search,
)
from tests.features.test_extractors import photograph


def test_selective_search_finds_an_object_on_plain_ground() -> None:
    image = torch.full((3, 600, 800), 40, dtype=torch.uint8)
    image[:, 150:400, 200:500] = torch.tensor([220, 30, 30], dtype=torch.uint8)[:, None, None]
    truth = [199.5, 149.5, 499.5, 399.5]
    # A pixel of the resized image is two of this one, or nearly three; the segmentation smooths the edges first.
    for boxes, far in ((selective_search(image), 4), (full_selective_search(image), 6)):
        assert np.abs(boxes - truth).max(axis=1).min() <= far
        np.testing.assert_allclose(boxes[0], [-0.5, -0.5, 799.5, 599.5])


def test_selective_search_is_sorted_and_repeatable() -> None:
    image = photograph(300, 400)
    boxes = selective_search(image)
    assert len(boxes) > 50
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    sides = boxes[:, 2:] - boxes[:, :2]
    assert sides.min() > 0
    assert (np.diff(sides.prod(axis=1)) <= 1e-9).all()
    np.testing.assert_array_equal(selective_search(image), boxes)


@pytest.mark.parametrize("size", [(1, 300), (50, 80)])
def test_selective_search_without_texture_is_one_box(size: tuple[int, int]) -> None:
    boxes = selective_search(torch.full((3, *size), 77, dtype=torch.uint8))
    np.testing.assert_allclose(boxes, [[-0.5, -0.5, size[1] - 0.5, size[0] - 0.5]])


def test_full_selective_search_finds_more_and_none_narrow() -> None:
    image = photograph(300, 400)
    boxes = full_selective_search(image)
    sides = boxes[:, 2:] - boxes[:, :2]
    assert sides.min() >= NARROWEST * 400 / FULL_SIZE - 1e-3
    fast = selective_search(image)
    wide = (fast[:, 2:] - fast[:, :2]).min(axis=1) >= NARROWEST * 400 / FULL_SIZE
    assert len(boxes) > 1.5 * wide.sum()
    assert (np.diff(sides.prod(axis=1)) <= 0.1).all()  # in float32


def test_full_selective_search_of_a_narrow_image_finds_nothing() -> None:
    assert full_selective_search(torch.full((3, 12, 300), 77, dtype=torch.uint8)).shape == (0, 4)
