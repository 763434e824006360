import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from geomatch.geometry import apply_homography
from geomatch.views import WarpRanges, homography_between, pixel_grid, random_view, square_corners, warp_image

seeds = st.integers(0, 2**31)


@given(seeds)
def test_a_homography_takes_its_four_points_where_it_should(seed: int) -> None:
    target = square_corners(2) + torch.from_numpy(np.random.default_rng(seed).uniform(-0.3, 0.3, (4, 2)))
    found = apply_homography(homography_between(square_corners(100), target), square_corners(100))
    torch.testing.assert_close(found, target)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_a_view_is_the_mirrored_photograph_read_bilinearly(seed: int) -> None:
    random = np.random.default_rng(seed)
    image = random.uniform(size=(3, 40, 50)).astype(np.float32)
    homography = random_view((40, 50), 30, WarpRanges(), torch.Generator().manual_seed(seed))
    view = warp_image(torch.from_numpy(image), homography, (30, 30))
    x, y = apply_homography(homography, pixel_grid(30, 30)).numpy().T
    for channel in range(3):
        expected = map_coordinates(image[channel].astype(np.float64), [y, x], order=1, mode="reflect")
        np.testing.assert_allclose(view[channel].numpy().ravel(), expected, atol=2e-3)


def test_views_lean_towards_zooming_in() -> None:
    generator = torch.Generator().manual_seed(0)
    areas = []
    for _ in range(200):
        corners = apply_homography(random_view((224, 224), 224, WarpRanges(), generator), square_corners(224))
        x, y = corners.T
        areas.append(0.5 * float((x * y.roll(-1) - y * x.roll(-1)).sum().abs()) / 224**2)
    assert np.median(areas) < 0.8
