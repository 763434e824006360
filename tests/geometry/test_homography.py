import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from geomatch.geometry.homography import (
    WarpRanges,
    apply_homography,
    homography_between,
    pixel_grid,
    random_view,
    square_corners,
    stack_images,
    warp_image,
    warp_images,
)

seeds = st.integers(0, 2**31)


@settings(deadline=None)
@given(seeds)
def test_homography_between_maps_its_four_points(seed: int) -> None:
    target = square_corners(2) + torch.from_numpy(np.random.default_rng(seed).uniform(-0.3, 0.3, (4, 2)))
    found = apply_homography(homography_between(square_corners(100), target), square_corners(100))
    torch.testing.assert_close(found, target)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_warp_image_reads_the_mirrored_image(seed: int) -> None:
    random = np.random.default_rng(seed)
    image = random.uniform(size=(3, 40, 50)).astype(np.float32)
    homography = random_view((40, 50), 30, WarpRanges(), torch.Generator().manual_seed(seed))
    view = warp_image(torch.from_numpy(image), homography, (30, 30))
    x, y = apply_homography(homography, pixel_grid(30, 30)).numpy().T
    for channel in range(3):
        expected = map_coordinates(image[channel].astype(np.float64), [y, x], order=1, mode="reflect")
        np.testing.assert_allclose(view[channel].numpy().ravel(), expected, atol=2e-3)


def test_random_view_zooms_in_on_average() -> None:
    generator = torch.Generator().manual_seed(0)
    areas = []
    for _ in range(200):
        corners = apply_homography(random_view((224, 224), 224, WarpRanges(), generator), square_corners(224))
        x, y = corners.T
        areas.append(0.5 * float((x * y.roll(-1) - y * x.roll(-1)).sum().abs()) / 224**2)
    assert np.median(areas) < 0.8


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_warp_images_equals_warp_image(seed: int) -> None:
    """Images of different sizes: the zeros around the smaller ones never show."""
    random = np.random.default_rng(seed)
    sizes = [(40, 50), (64, 31), (33, 33)]
    images = [torch.from_numpy(random.uniform(size=(3, *size)).astype(np.float32)) for size in sizes]
    generator = torch.Generator().manual_seed(seed)
    ranges = WarpRanges(largest_view=4)  # far beyond the borders
    maps = torch.stack([torch.stack([random_view(size, 30, ranges, generator) for _ in range(2)]) for size in sizes])
    stack, shapes = stack_images(images)
    assert stack.shape == (3, 3, 64, 50)
    views = warp_images(stack, shapes, maps, 30)
    assert views.shape == (3, 2, 3, 30, 30)
    for image, homographies, pair in zip(images, maps, views, strict=True):
        for homography, view in zip(homographies, pair, strict=True):
            torch.testing.assert_close(view, warp_image(image, homography, (30, 30)), atol=1e-3, rtol=0)


def test_warp_images_mirrors_outside_the_image() -> None:
    image = torch.arange(12, dtype=torch.float32).reshape(1, 3, 4).expand(3, 3, 4)
    stack, sizes = stack_images([image, torch.zeros(3, 5, 5)])
    identity = torch.eye(3, dtype=torch.float64).expand(2, 1, 3, 3)
    view = warp_images(stack, sizes, identity, 8)[0, 0, 0]
    expected = torch.from_numpy(np.pad(image[0].numpy(), ((0, 5), (0, 4)), mode="symmetric"))
    torch.testing.assert_close(view, expected, atol=1e-4, rtol=0)
