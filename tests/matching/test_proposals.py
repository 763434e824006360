import numpy as np
import pytest

from geomatch.matching.proposal_flow.proposals import (
    SAMPLED_ASPECTS,
    SAMPLED_SCALES,
    inside_border,
    sliding_windows,
    thinned,
    uniform_boxes,
    whole_image,
)


@pytest.mark.parametrize("size", [(300, 300), (300, 400), (500, 333), (480, 640), (200, 500)])
def test_sliding_windows_are_about_500_off_the_border(size: tuple[int, int]) -> None:
    boxes = sliding_windows(size)
    height, width = size
    assert 400 <= len(boxes) <= 600
    assert (boxes[:, :2] >= np.array([width, height]) * 0.01 - 0.5 - 1e-9).all()
    assert (boxes[:, 2:] <= np.array([width, height]) * 0.99 - 0.5 + 1e-9).all()
    assert len(np.unique(boxes, axis=0)) == len(boxes)


def test_sliding_windows_tile_the_image_with_the_stride() -> None:
    """Usable width 98 for windows of 40 at steps of at most 20: four of them, 58 / 3 apart."""
    boxes = sliding_windows((100, 100), scales=[0.4], aspects=[1.0], stride=0.5)
    starts = [0.5 + step * 58 / 3 for step in range(4)]
    assert boxes == pytest.approx(np.array([[x, y, x + 40, y + 40] for y in starts for x in starts]))


def test_sliding_windows_have_the_scales_and_aspects() -> None:
    wide = sliding_windows((100, 400), scales=[0.25], aspects=[4.0])
    sides = wide[:, 2:] - wide[:, :2]
    assert sides == pytest.approx(np.tile([100.0, 25.0], (len(wide), 1)))
    assert len(sliding_windows((100, 400), scales=[0.6], aspects=[1.0])) == 0


def test_inside_border_drops_boxes_in_the_outer_hundredth() -> None:
    """Of an image of 200 x 100, that is all left of 1.5, above 0.5, right of 197.5 and below 98.5."""
    kept = [[1.5, 0.5, 197.5, 98.5], [50, 40, 60, 90]]
    dropped = [[1.4, 10, 20, 20], [10, 0.4, 20, 20], [10, 10, 197.6, 20], [10, 10, 20, 98.6], *whole_image((100, 200))]
    assert inside_border(np.array([*kept, *dropped]), (100, 200)).tolist() == kept


@pytest.mark.parametrize("size", [(300, 300), (300, 400), (200, 500)])
def test_uniform_boxes_have_the_stated_sizes(size: tuple[int, int]) -> None:
    boxes = uniform_boxes(size, 800, seed=1)
    assert boxes.shape == (800, 4)
    assert (inside_border(boxes, size) == boxes).all()
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    scale, aspect = np.sqrt(width * height / (size[0] * size[1])), width / height
    assert (scale >= SAMPLED_SCALES[0] - 1e-9).all()
    assert (scale <= SAMPLED_SCALES[1]).all()
    assert (aspect >= SAMPLED_ASPECTS[0]).all()
    assert (aspect <= SAMPLED_ASPECTS[1]).all()
    x, y = (boxes[:, :2] + boxes[:, 2:]).T / 2
    assert np.ptp(x) > 0.7 * size[1]
    assert np.ptp(y) > 0.7 * size[0]


def test_uniform_boxes_depend_on_the_seed_alone() -> None:
    assert (uniform_boxes((90, 120), 50, seed=3) == uniform_boxes((90, 120), 50, seed=3)).all()
    assert not (uniform_boxes((90, 120), 50, seed=3) == uniform_boxes((90, 120), 50, seed=4)).any()


def test_sliding_windows_of_an_image_one_pixel_wide() -> None:
    assert len(sliding_windows((200, 1))) == 0
    assert whole_image((200, 1)).tolist() == [[-0.5, -0.5, 0.5, 199.5]]


def test_thinned_leaves_out_boxes_evenly() -> None:
    boxes = np.arange(40.0).reshape(10, 4)
    assert thinned(boxes, 4).tolist() == boxes[[0, 2, 5, 7]].tolist()
    assert thinned(boxes, 10).tolist() == thinned(boxes, 11).tolist() == boxes.tolist()
    assert thinned(boxes[:0], 5).shape == (0, 4)
