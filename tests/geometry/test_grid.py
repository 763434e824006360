import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from geomatch.geometry.canvas import Canvas
from geomatch.geometry.grid import Grid, read_cells, rescale_position
from geomatch.geometry.homography import apply_homography

sizes = st.tuples(st.integers(16, 700), st.integers(16, 700))


def test_grid_centres_follow_the_half_pixel_rule() -> None:
    # Four cells over eight pixels: the first covers pixels 0 and 1, so its centre is 0.5.
    centres = Grid.over((4, 8), height=2, width=4).centres()
    assert centres[:, 0].tolist() == [0.5, 2.5, 4.5, 6.5] * 2
    assert centres[:, 1].tolist() == [0.5] * 4 + [2.5] * 4


def test_rescale_position_keeps_both_ends() -> None:
    assert rescale_position(-0.5, 10, 37) == -0.5
    assert rescale_position(9.5, 10, 37) == 36.5


@settings(deadline=None)
@given(sizes, st.integers(1, 40), st.integers(1, 40), st.integers(1, 5))
def test_grid_upsampled_averages_to_the_original(size: tuple[int, int], height: int, width: int, factor: int) -> None:
    grid = Grid.over(size, height, width)
    fine = grid.upsampled(factor).centres().reshape(height, factor, width, factor, 2).mean(dim=(1, 3))
    torch.testing.assert_close(fine.reshape(-1, 2), grid.centres(), atol=1e-3, rtol=1e-4)


@settings(deadline=None)
@given(sizes, st.integers(1, 30), st.integers(1, 30))
def test_grid_to_cells_inverts_to_pixels(size: tuple[int, int], height: int, width: int) -> None:
    grid = Grid.over(size, height, width)
    torch.testing.assert_close(grid.to_cells(grid.centres()), grid.cells(), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("size", [(313, 471), (257, 339), (64, 640), (500, 100)])
@pytest.mark.parametrize("stride", [8, 16])
def test_canvas_grid_gives_the_pixels_under_the_cells(size: tuple[int, int], stride: int) -> None:
    """Draw an image whose brightness is its own x (then y) and read the canvas where each cell is centred."""
    canvas = Canvas.fit(size, longer_side=224, margin=8)
    for axis in (0, 1):
        ramp = torch.arange(size[1 - axis], dtype=torch.float32)
        image = (ramp if axis == 0 else ramp[:, None]).expand(3, *size) / 2
        # draw() takes bytes; the ramp is drawn here in the same way, but in floating point.
        resized = torch.nn.functional.interpolate(
            image[None], size=canvas.working_size, mode="bilinear", antialias=True
        )
        padded = torch.nn.functional.pad(resized, (canvas.margin,) * 4, mode="reflect")
        under_cells = canvas.crop(padded[0, 0, ::stride, ::stride], stride) * 2
        grid = canvas.grid(stride)
        centres = grid.centres()[:, axis].reshape(grid.shape)
        inner = (slice(1, -1), slice(1, -1)) if min(grid.shape) > 2 else (slice(None), slice(None))
        torch.testing.assert_close(under_cells[inner], centres[inner], atol=0.6, rtol=0)


def test_canvas_keeps_the_aspect_ratio() -> None:
    canvas = Canvas.fit((300, 900), longer_side=300, margin=8)
    assert canvas.working_size == (100, 300)
    assert canvas.grid(16).pitch == (48.0, 48.0)


def test_read_cells_equals_scipy() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(2, 3, 5, 7)).astype(np.float32)
    cells = random.uniform(-2, 9, size=(2, 11, 2)).astype(np.float32)
    read = read_cells(torch.from_numpy(values), torch.from_numpy(cells)).numpy()
    for image in range(2):
        for channel in range(3):
            y, x = cells[image, :, 1], cells[image, :, 0]
            expected = map_coordinates(values[image, channel], [y, x], order=1, mode="nearest")
            np.testing.assert_allclose(read[image, channel], expected, atol=1e-5)


def test_apply_homography_divides_by_the_last_row() -> None:
    homography = torch.tensor([[2.0, 0, 1], [0, 3, 2], [0.5, 0, 1]])
    assert apply_homography(homography, torch.tensor([[2.0, 4.0]])).tolist() == [[2.5, 7.0]]


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 3))
def test_grid_window_equals_a_slow_computation(h: int, w: int, radius: int) -> None:
    cells, on_grid = Grid.over((60, 60), h, w).window(torch.arange(h * w), radius)
    for index in range(h * w):
        window = [
            (index // w + dy, index % w + dx) for dy in range(-radius, radius + 1) for dx in range(-radius, radius + 1)
        ]
        assert on_grid[index].tolist() == [0 <= y < h and 0 <= x < w for y, x in window]
        assert cells[index].tolist() == [min(max(y, 0), h - 1) * w + min(max(x, 0), w - 1) for y, x in window]
