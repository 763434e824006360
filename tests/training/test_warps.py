import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, map_coordinates

from geomatch.geometry import apply_homography
from geomatch.training.warps import ColourRanges, corresponding_points, random_colour
from geomatch.views import WarpRanges, random_view, warp_image

seeds = st.integers(0, 2**31)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_corresponding_points_show_the_same_spot_of_the_photograph(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    first, second = (random_view((224, 300), 224, WarpRanges(), generator) for _ in range(2))
    a, b = corresponding_points(first, second, 224, 100, generator)
    assert a.shape == b.shape == (100, 2)
    torch.testing.assert_close(apply_homography(first, a), apply_homography(second, b))
    for points in (a, b):
        assert points.min() >= 0
        assert points.max() <= 223


def test_corresponding_points_have_the_same_colour_in_both_views() -> None:
    noise = np.random.default_rng(0).uniform(size=(3, 200, 260))
    photograph = torch.from_numpy(gaussian_filter(noise, (0, 6, 6)).astype(np.float32))
    spread = float(photograph.std())
    generator = torch.Generator().manual_seed(0)
    maps = [random_view((200, 260), 128, WarpRanges(), generator) for _ in range(2)]
    points = corresponding_points(*maps, 128, 400, generator)
    read = []
    for homography, places in zip(maps, points, strict=True):
        view = warp_image(photograph, homography, (128, 128)).numpy()
        read.append(np.stack([map_coordinates(c, places.numpy().T[::-1], order=1) for c in view]))
    assert np.abs(read[0] - read[1]).mean() < 0.05 * spread


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_colours_stay_colours_and_depend_on_the_generator_alone(seed: int) -> None:
    view = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(1))
    first, again = (random_colour(view, ColourRanges(), torch.Generator().manual_seed(seed)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.min() >= 0
    assert first.max() <= 1
