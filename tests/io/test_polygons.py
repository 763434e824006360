import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from geomatch.io.annotations.polygons import fill, simplify, trace

corners = st.floats(-5, 25, allow_nan=False).map(lambda value: round(value, 2))
polygons = st.lists(st.tuples(corners, corners), min_size=3, max_size=8).map(lambda each: np.array(each))
blobs = st.integers(0, 10**6).map(
    lambda seed: ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(24, 31)), 2) > 0.05
)


def is_inside(polygon: NDArray[np.float64], x: float, y: float) -> bool:
    """A ray to the left crosses the polygon an odd number of times."""
    inside = False
    for (from_x, from_y), (to_x, to_y) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if (from_y < y) != (to_y < y):
            inside ^= from_x + (y - from_y) / (to_y - from_y) * (to_x - from_x) < x
    return inside


def test_fill_takes_pixels_by_their_centre() -> None:
    square = np.array([[0.6, 0.6], [3.4, 0.6], [3.4, 2.4], [0.6, 2.4]])
    assert np.argwhere(fill([square], (5, 6))).tolist() == [[1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [2, 3]]


@given(polygons)
def test_fill_equals_ray_casting(polygon: NDArray[np.float64]) -> None:
    moved = polygon + np.array([np.e, np.pi]) / 1000  # off the pixels' centres, which edges with two decimals could hit
    mask = fill([moved], (20, 18))
    expected = [[is_inside(moved, x, y) for x in range(18)] for y in range(20)]
    np.testing.assert_array_equal(mask, expected)


def test_fill_joins_polygons() -> None:
    left, right = (
        np.array([[-0.5, -0.5], [3.5, -0.5], [3.5, 1.5], [-0.5, 1.5]]),
        np.array([[2, -1], [9, -1], [9, 9], [2, 9]]),
    )
    np.testing.assert_array_equal(fill([left, right], (4, 8)), fill([left], (4, 8)) | fill([right], (4, 8)))


@pytest.mark.parametrize(("rows", "columns"), [((1, 2), (3, 4)), ((0, 5), (0, 7)), ((2, 3), (1, 6))])
def test_trace_of_a_rectangle_is_its_corners(rows: tuple[int, int], columns: tuple[int, int]) -> None:
    mask = np.zeros((5, 7), bool)
    mask[slice(*rows), slice(*columns)] = True
    (outline,) = trace(mask)
    (top, bottom), (left, right) = np.array(rows) - 0.5, np.array(columns) - 0.5
    assert outline.tolist() == [[left, top], [right, top], [right, bottom], [left, bottom]]


def test_trace_separates_parts_that_touch_at_a_corner() -> None:
    mask = np.array([[1, 0, 0], [0, 1, 1], [0, 1, 1]], bool)
    assert [fill([outline], mask.shape).sum() for outline in trace(mask)] == [4, 1]


def test_trace_of_an_empty_mask_is_empty() -> None:
    assert trace(np.zeros((4, 4), bool)) == []


@settings(deadline=None)
@given(blobs)
def test_fill_undoes_trace_within_tolerance(mask: NDArray[np.bool_]) -> None:
    parts, count = ndimage.label(mask)
    whole = np.any([ndimage.binary_fill_holes(parts == number) for number in range(1, count + 1)], axis=0)
    back = fill(trace(mask), mask.shape)
    everywhere = np.ones((3, 3), bool)
    assert not (back & ~ndimage.binary_dilation(whole, everywhere)).any()
    assert not (ndimage.binary_erosion(whole, everywhere) & ~back).any()
    assert (back != whole).mean() < 0.1


def test_trace_makes_a_line_of_steps() -> None:
    mask = np.tri(40, 40, dtype=bool)
    (outline,) = trace(mask)
    assert len(outline) <= 8


def test_simplify_keeps_corners_beyond_tolerance() -> None:
    spike = np.array([[0.0, 0], [5, 2], [10, 0], [10, 10], [5, 10.5], [0, 10]])
    assert simplify(spike, 1.0).tolist() == [[0, 0], [5, 2], [10, 0], [10, 10], [0, 10]]
    assert simplify(spike, 0.1).tolist() == spike.tolist()
