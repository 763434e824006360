import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from geomatch.correspondence import FeatureMap
from geomatch.errors import OutOfMemoryError
from geomatch.geometry.grid import Grid
from geomatch.matching.proposal_flow.pooling import SAMPLES, pool, pool_maxima
from tests.conftest import random_features


def slow_pool(features: FeatureMap, box: np.ndarray, bins: int) -> np.ndarray:
    """One box, bin after bin and point after point."""
    grid, values = features.grid, features.descriptors.numpy().astype(np.float64)
    left, top, right, bottom = box
    out = np.zeros((bins, bins, len(values)))
    for row, column in np.ndindex(bins, bins):
        for down, across in np.ndindex(SAMPLES, SAMPLES):
            x = left + (right - left) * (column + (across + 0.5) / SAMPLES) / bins
            y = top + (bottom - top) * (row + (down + 0.5) / SAMPLES) / bins
            cell = (y - grid.origin[1]) / grid.pitch[1], (x - grid.origin[0]) / grid.pitch[0]
            for channel, value in enumerate(values):
                read = map_coordinates(value, np.array(cell)[:, None], order=1, mode="nearest")[0]
                out[row, column, channel] += read / SAMPLES**2
    return out.ravel() / np.linalg.norm(out)


@pytest.mark.parametrize("bins", [1, 3])
@pytest.mark.parametrize("max_bytes", [12 * 9 * 21, 1 << 30])
def test_pool_equals_a_slow_loop(bins: int, max_bytes: int) -> None:
    random = np.random.default_rng(0)
    features = random_features(6, 8, channels=5)
    features = FeatureMap(features.descriptors, (67, 91), Grid(6, 8, origin=(5.3, 4.1), pitch=(11.7, 10.2)))
    corners = np.sort(random.uniform(-0.5, 66.5, (20, 2, 2)), axis=1)
    boxes = corners.reshape(20, 4).astype(np.float32)
    found = pool(features, torch.from_numpy(boxes), bins, max_bytes)
    np.testing.assert_allclose(found, [slow_pool(features, box, bins) for box in boxes], atol=2e-5)


def test_pool_of_a_constant_map_repeats_it() -> None:
    features = FeatureMap(torch.tensor([0.6, 0.8])[:, None, None].expand(2, 4, 5), (40, 50), Grid.over((40, 50), 4, 5))
    found = pool(features, torch.tensor([[3.0, 5.0, 30.0, 17.0], [-0.5, -0.5, 49.5, 39.5]]), 2, 1 << 20)
    torch.testing.assert_close(found, torch.tensor([[0.3, 0.4] * 4] * 2))


def test_pool_without_memory_names_the_option() -> None:
    with pytest.raises(OutOfMemoryError, match="--max-memory"):
        pool(random_features(4, 4), torch.tensor([[0.0, 0.0, 9.0, 9.0]]), 4, 100)


def slow_maxima(cells: np.ndarray, first: np.ndarray, last: np.ndarray, bins: int) -> np.ndarray:
    """RoI pooling of one box, bin after bin and cell after cell."""
    ends = []
    for axis, length in ((1, cells.shape[1]), (0, cells.shape[2])):
        begin, end = (int(np.clip(np.round(each[axis]), 0, length - 1)) for each in (first, last))
        size = max(end - begin + 1, 1)
        ends.append([(begin + np.floor(k * size / bins), begin + np.ceil((k + 1) * size / bins)) for k in range(bins)])
    out = np.full((bins, bins, len(cells)), -np.inf)
    for row, column in np.ndindex(bins, bins):
        (top, bottom), (left, right) = ends[0][row], ends[1][column]
        for y, x in np.ndindex(*cells.shape[1:]):
            if top <= y < bottom and left <= x < right:
                out[row, column] = np.maximum(out[row, column], cells[:, y, x])
    return out.ravel()


@pytest.mark.parametrize("bins", [1, 2, 7])
def test_pool_maxima_equals_a_slow_loop(bins: int) -> None:
    """Boxes of a cell and less, of the whole map and beyond it; bins larger and smaller than a cell."""
    random = np.random.default_rng(0)
    cells = random.normal(size=(5, 9, 11)).astype(np.float32)
    corners = np.sort(random.uniform(-1, 10, (20, 2, 2)), axis=1).astype(np.float32)
    corners[0], corners[1] = (3.1, 3.2), ((-4, -4), (40, 40))
    first, last = (torch.from_numpy(corners[:, k].copy()) for k in (0, 1))
    found = pool_maxima(torch.from_numpy(cells), first, last, bins)
    expected = [slow_maxima(cells, *pair, bins) for pair in zip(first.numpy(), last.numpy(), strict=True)]
    np.testing.assert_array_equal(found, expected)


def test_pool_maxima_gradient_goes_to_the_largest_cell() -> None:
    cells = torch.tensor([[[1.0, 4.0], [3.0, 2.0]]], requires_grad=True)
    box = torch.zeros(1, 2), torch.ones(1, 2)
    pool_maxima(cells, *box, 1).sum().backward()
    assert cells.grad is not None
    assert cells.grad.tolist() == [[[0, 1], [0, 0]]]
