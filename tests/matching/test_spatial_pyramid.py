import math

import numpy as np
import pytest
import torch
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.errors import InputError, OutOfMemoryError
from geomatch.geometry.grid import Grid
from geomatch.matching.base import MatchContext
from geomatch.matching.load import load_matcher
from geomatch.matching.nearest import nearest_partners
from geomatch.matching.spatial_pyramid.node_costs import Labels, home_cells, node_costs
from geomatch.matching.spatial_pyramid.spatial_pyramid import SpatialPyramid, destinations, nearby_partners
from tests.conftest import random_features
from tests.stub import match_features

PLENTY = 1 << 30


def distance(source: FeatureMap, target: FeatureMap, cell: tuple[int, int], other: tuple[int, int]) -> float:
    difference = source.descriptors[:, cell[0], cell[1]].double() - target.descriptors[:, other[0], other[1]].double()
    return float(difference.norm())


def slow_home(k: int, ours: int, theirs: int, scale: float) -> int:
    """Along one axis: the same place relative to both lengths, scaled about the middle, half-way going down."""
    place = scale * ((k + 0.5) / ours - 0.5) + 0.5
    return math.ceil(place * theirs - 1 - 1e-3)


def slow_costs(source: FeatureMap, target: FeatureMap, labels: Labels, levels: int, truncation: float) -> np.ndarray:
    (hs, ws), (ht, wt) = source.grid.shape, target.grid.shape
    found = []
    for level in range(levels):
        n = 2**level
        costs = np.zeros((n * n, *labels.shape))
        cells_of: list[list[tuple[int, int]]] = [[] for _ in range(n * n)]
        for y, x in np.ndindex(hs, ws):
            cells_of[int((y + 0.5) / hs * n) * n + int((x + 0.5) / ws * n)].append((y, x))
        for node, cells in enumerate(cells_of):
            for s, i, j in np.ndindex(labels.shape):
                for y, x in cells:
                    to_y = slow_home(y, hs, ht, labels.scales[s]) + i - labels.reach
                    to_x = slow_home(x, ws, wt, labels.scales[s]) + j - labels.reach
                    on_grid = 0 <= to_y < ht and 0 <= to_x < wt
                    away = distance(source, target, (y, x), (to_y, to_x)) if on_grid else math.inf
                    costs[node, s, i, j] += min(away, truncation) / len(cells)
        found.append(costs / np.mean([costs[node] for node, cells in enumerate(cells_of) if cells]))
    return np.concatenate(found)


@pytest.mark.parametrize(
    ("source", "target", "scales"),
    [((7, 9), (7, 9), (1.0,)), ((6, 8), (9, 5), (0.5, 1.0, 2.0)), ((3, 1), (2, 6), (1.0,))],
)
def test_node_costs_equal_a_slow_loop(
    source: tuple[int, int], target: tuple[int, int], scales: tuple[float, ...]
) -> None:
    """Also on grids of different shape, scaled, and too narrow for all nodes to have cells."""
    a, b = random_features(*source, channels=4), random_features(*target, channels=4, seed=1)
    labels = Labels(scales, 3)
    expected = slow_costs(a, b, labels, 3, 1.2)
    for max_bytes in (PLENTY, 40_000):
        found = node_costs(MatchContext(a, b, max_bytes), labels, 3, 1.2)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_nearby_partners_equal_a_slow_loop() -> None:
    source, target = random_features(5, 6, channels=4), random_features(7, 4, channels=4, seed=1)
    start = torch.from_numpy(np.random.default_rng(0).integers(-3, 9, (30, 2)))
    found = nearby_partners(MatchContext(source, target, PLENTY), start, 2, 0.1)
    for cell, (x, y) in enumerate(start.tolist()):
        x, y = min(max(x, 0), 3), min(max(y, 0), 6)
        costs = {
            to_y * 4 + to_x: distance(source, target, (cell // 6, cell % 6), (to_y, to_x))
            + 0.1 * (abs(to_x - x) + abs(to_y - y))
            for to_y in range(max(y - 2, 0), min(y + 3, 7))
            for to_x in range(max(x - 2, 0), min(x + 3, 4))
        }
        assert int(found[cell]) == min(costs, key=lambda each: costs[each])


def test_labels_are_in_row_major_order_of_scale_y_and_x() -> None:
    labels = Labels((0.5, 2.0), 1)
    expected = [[scale, dx, dy] for scale in (0.5, 2.0) for dy in (-1.0, 0.0, 1.0) for dx in (-1.0, 0.0, 1.0)]
    assert labels.read(torch.arange(18)).tolist() == expected


def test_home_cells_are_the_same_relative_place() -> None:
    source, target = Grid.over((80, 120), 8, 12), Grid.over((40, 60), 4, 6)
    home = home_cells(source, target, torch.tensor(1.0))
    torch.testing.assert_close(target.to_pixels(home), (source.centres() + 0.5) / 2 - 0.5)
    twice = home_cells(source, target, torch.tensor(2.0))
    middle = torch.tensor([2.5, 1.5])
    torch.testing.assert_close(twice - middle, 2 * (home - middle))


def test_destinations_are_interpolated_between_leaves() -> None:
    """Two columns of leaves over eight cells: centres at cells 1.5 and 5.5, where they move by 2 and by 6."""
    grid = Grid.over((8, 8), 8, 8)
    leaves = torch.tensor([[1.0, 2, 0], [1, 6, 0], [1, 2, 0], [1, 6, 0]])
    moved = (destinations(grid, grid, leaves, 2) - grid.cells()).reshape(8, 8, 2)
    for row in moved.tolist():
        assert [x for x, _ in row] == [2, 2, 2.5, 3.5, 4.5, 5.5, 6, 6]
        assert [y for _, y in row] == [0] * 8


def shifted_pair(noise: float) -> tuple[FeatureMap, FeatureMap]:
    """A map and its shift by 2 cells along x and 1 along y, noisy."""
    source, target = random_features(16, 16, channels=32, seed=3), random_features(16, 16, channels=32, seed=4)
    moved = torch.roll(source.descriptors, (1, 2), dims=(1, 2))
    target.descriptors.copy_(torch.nn.functional.normalize(moved + noise * target.descriptors, dim=0))
    return source, target


def test_spatial_pyramid_recovers_a_noisy_shift() -> None:
    source, target = shifted_pair(noise=2.5)
    true = torch.roll(torch.arange(256).reshape(16, 16), (-1, -2), dims=(0, 1))[:14, :13]

    def share_right(partners: Tensor) -> float:
        return float((partners.reshape(16, 16)[:14, :13] == true).float().mean())

    context = MatchContext(source, target, PLENTY)
    assert share_right(nearest_partners(context).forward) < 0.6
    assert share_right(SpatialPyramid(levels=3, cell_weight=0.5).partners(context)) > 0.95


def described(positions: Tensor) -> Tensor:
    """Unit descriptors (32, N) that are smooth functions of positions (N, 2) in cells."""
    random = np.random.default_rng(0)
    frequencies = torch.from_numpy(random.normal(size=(2, 32)) / 12).float()
    phases = torch.from_numpy(random.uniform(0, 2 * np.pi, 32)).float()
    return torch.nn.functional.normalize(torch.cos(2 * np.pi * positions @ frequencies + phases), dim=1).mT


def test_spatial_pyramid_scales_find_a_larger_object() -> None:
    grid = Grid.over((160, 160), 16, 16)
    middle = torch.tensor([7.5, 7.5])
    source = FeatureMap(described(grid.cells()).reshape(32, 16, 16), (160, 160), grid)
    enlarged = described(middle + (grid.cells() - middle) / 2).reshape(32, 16, 16)
    target = FeatureMap(enlarged, (160, 160), grid)
    truth = (middle + 2 * (grid.cells() - middle)).reshape(16, 16, 2)[5:11, 5:11]

    def error(scales: str) -> float:
        matcher = SpatialPyramid(levels=1, scales=scales, cell_reach=0)
        partners = matcher.partners(MatchContext(source, target, PLENTY))
        found = torch.stack((partners % 16, partners // 16), dim=1).reshape(16, 16, 2)[5:11, 5:11]
        return float((found - truth).norm(dim=2).mean())

    assert error("0.5,1,2") < 0.8
    assert error("0.5,1,2") < error("1") / 2


@pytest.mark.parametrize("parameters", [{}, {"levels": 1}, {"levels": 3, "scales": "0.5,0.75,1,1.5,2"}])
def test_spatial_pyramid_matches_identical_images(parameters: dict[str, object]) -> None:
    features = random_features(9, 12, channels=32, sigma=0.1)
    found = match_features("dsp", features, features, {"window": 0, **parameters})
    assert found.flow.abs().max() < 1e-4
    assert bool(found.valid.all())


@pytest.mark.parametrize(("source", "target"), [((1, 9), (1, 9)), ((9, 1), (2, 5)), ((1, 1), (6, 7)), ((1, 1), (1, 1))])
def test_spatial_pyramid_of_grids_one_cell_wide(source: tuple[int, int], target: tuple[int, int]) -> None:
    there, back = SpatialPyramid()(MatchContext(random_features(*source), random_features(*target, seed=1), PLENTY))
    assert there.positions.shape == (source[0] * source[1], 2)
    assert bool(there.positions.isfinite().all() & back.positions.isfinite().all())


def test_spatial_pyramid_without_texture_stays_in_place() -> None:
    flat = random_features(8, 10)
    flat.descriptors.copy_(flat.descriptors[:, :1, :1].expand(-1, 8, 10).clone())
    partners = SpatialPyramid().partners(MatchContext(flat, flat, PLENTY))
    assert partners.tolist() == list(range(80))


def test_spatial_pyramid_is_the_same_both_ways() -> None:
    source, target = random_features(11, 13, seed=1), random_features(12, 9, seed=2)
    method = SpatialPyramid(levels=2)
    there, back = method(MatchContext(source, target, PLENTY))
    again_back, again_there = method(MatchContext(target, source, 60_000))
    torch.testing.assert_close(there.positions, again_there.positions)
    torch.testing.assert_close(back.positions, again_back.positions)


@pytest.mark.parametrize("method", [SpatialPyramid(), SpatialPyramid(levels=1, reach=0)])
def test_spatial_pyramid_without_memory_names_the_option(method: SpatialPyramid) -> None:
    """Too small for the messages, and for a single cell."""
    features = random_features(9, 9)
    with pytest.raises(OutOfMemoryError, match="--max-memory"):
        method(MatchContext(features, features, 300))


@pytest.mark.parametrize("text", ["big", "1,0", "1,"])
def test_spatial_pyramid_refuses_scales_that_are_not_positive(text: str) -> None:
    with pytest.raises(InputError, match="parameter scales of matcher dsp"):
        load_matcher("dsp", {"scales": text})
