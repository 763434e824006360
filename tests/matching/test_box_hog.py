"""HOG of boxes: the right cells of the right pixels, whatever a box's size."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from geomatch.matching.proposal_flow.box_hog import hog_of_boxes, resized_crop
from tests.features.test_extractors import photograph
from tests.features.test_hog import slow_block

pytest.importorskip("cv2")


def test_hog_of_boxes_equals_a_slow_computation() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (60, 70, 3), np.uint8)
    image = torch.from_numpy(colours).permute(2, 0, 1)
    # 24 x 24 pixels from (16, 12) on, and 8 more all round.
    found = hog_of_boxes(image, torch.tensor([[15.5, 11.5, 39.5, 35.5]]), bins=3).reshape(3, 3, 31)
    window = np.pad(colours[4:44, 8:48].astype(np.float64), ((1, 1), (1, 1), (0, 0)), mode="reflect")
    for row, column in np.ndindex(3, 3):
        left, top = 9 + 8 * column, 9 + 8 * row
        cells = [slow_block(window, left + 8 * (j - 1), top + 8 * (i - 1))[1 - i, 1 - j] for i, j in np.ndindex(2, 2)]
        sensitive = sum(cells) / 2
        texture = [cell.sum() / np.sqrt(18) for cell in cells]
        expected = np.concatenate((sensitive, sensitive[:9] + sensitive[9:], texture))
        np.testing.assert_allclose(found[row, column], expected, atol=3e-4)


def test_hog_of_boxes_is_the_same_at_twice_the_size() -> None:
    image = photograph(60, 80)
    larger = F.interpolate(image[None], scale_factor=2.0, mode="bilinear")[0]
    small, large = torch.tensor([[19.5, 14.5, 49.5, 44.5]]), torch.tensor([[39.5, 29.5, 99.5, 89.5]])
    other = torch.tensor([[59.5, 29.5, 119.5, 89.5]])
    seen, same, else_where = (
        hog_of_boxes(image, small, 8),
        hog_of_boxes(larger, large, 8),
        hog_of_boxes(larger, other, 8),
    )
    assert F.cosine_similarity(seen, same) > 0.95
    assert F.cosine_similarity(seen, else_where) < 0.9


def test_resized_crop_repeats_pixels_at_the_border() -> None:
    image = photograph(24, 24)
    seen = resized_crop(image, [-0.5, -0.5, 23.5, 23.5], bins=3)
    torch.testing.assert_close(seen, F.pad(image[None].float(), (8, 8, 8, 8), mode="replicate")[0].byte())


def test_hog_of_a_box_within_one_pixel_is_zero() -> None:
    image = photograph(20, 20)
    box = torch.tensor([[6.7, 4.6, 7.0, 4.9]])
    assert (resized_crop(image, box[0].tolist(), 4) == image[:, 5, 7][:, None, None]).all()
    assert (hog_of_boxes(image, box, 4) == 0).all()
