import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from geomatch.correspondence import FeatureMap
from geomatch.errors import OutOfMemoryError
from geomatch.geometry.grid import Grid
from geomatch.matching.base import MatchContext
from geomatch.matching.hough import HoughVoting, by_displacement, interpolation, neighbours_votes
from geomatch.matching.nearest import NearestNeighbours
from tests.conftest import random_features

PAIRS = [((3, 4), (5, 2)), ((1, 1), (2, 3)), ((4, 1), (1, 4))]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_by_displacement_indexes_every_pair(source: tuple[int, int], target: tuple[int, int]) -> None:
    values = torch.rand(*source, *target)
    found = by_displacement(values)
    for y, x, v, u in np.ndindex(*source, *target):
        assert found[y, x, v - y + source[0] - 1, u - x + source[1] - 1] == values[y, x, v, u]
    assert float(found.sum()) == pytest.approx(float(values.sum()), rel=1e-5)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_neighbours_votes_equal_a_slow_loop(source: tuple[int, int], target: tuple[int, int]) -> None:
    reach, blur = 1.3, 0.8
    preferences = torch.rand(*source, *target)
    expected = torch.zeros(*source, *target)
    for y, x, v, u in np.ndindex(*source, *target):
        for ky, kx, lv, lu in np.ndindex(*source, *target):
            apart = (y - ky) ** 2 + (x - kx) ** 2
            differing = ((v - y) - (lv - ky)) ** 2 + ((u - x) - (lu - kx)) ** 2
            weight = math.exp(-apart / (2 * reach**2) - differing / (2 * blur**2))
            expected[y, x, v, u] += weight * preferences[ky, kx, lv, lu]
    torch.testing.assert_close(neighbours_votes(preferences, reach, blur), expected)


def test_interpolation_reads_a_plane_exactly() -> None:
    coarse = Grid(4, 5, origin=(7.0, 6.0), pitch=(10.0, 8.0))
    fine = Grid(7, 9, origin=(7.0, 6.0), pitch=(5.0, 4.0))
    slope = torch.tensor([0.3, -0.7])
    read = interpolation(coarse, fine, torch.device("cpu")) @ (coarse.centres() @ slope)
    torch.testing.assert_close(read, fine.centres() @ slope)


def noisy_pair(mirrored: bool) -> tuple[FeatureMap, FeatureMap, torch.Tensor]:
    """A map and its copy shifted by (2, 1) cells, or mirrored, drowned in noise; and the true partners of all cells."""
    source, noise = random_features(14, 14, channels=32, seed=3), random_features(14, 14, channels=32, seed=4)
    moved = source.descriptors.flip(2) if mirrored else torch.roll(source.descriptors, (1, 2), dims=(1, 2))
    target = replace(noise, descriptors=F.normalize(moved * 0.6 + noise.descriptors, dim=0))
    cells = torch.arange(196).reshape(14, 14)
    return source, target, cells.flip(1) if mirrored else torch.roll(cells, (-1, -2), dims=(0, 1))


@pytest.mark.parametrize("mirrored", [False, True])
def test_hough_finds_a_noisy_shift_or_mirror_image(mirrored: bool) -> None:
    source, target, true = noisy_pair(mirrored)
    inner = (slice(0, 13), slice(0, 12))

    def share_right(method: HoughVoting | NearestNeighbours) -> float:
        points = method(MatchContext(source, target, 1 << 30))[0]
        return float((target.grid.nearest(points.positions).reshape(14, 14)[inner] == true[inner]).float().mean())

    alone = share_right(NearestNeighbours(window=0))
    assert alone < 0.85
    assert share_right(HoughVoting(window=0, reach=0.3, blur=0.05)) > alone + 0.1


def test_hough_matches_identical_maps_in_place() -> None:
    features = random_features(30, 23, channels=64)
    there, back = HoughVoting(window=0)(MatchContext(features, features, 1 << 30))
    for points in (there, back):
        assert points.displacements().abs().max() < 1e-4


def test_hough_without_memory_names_the_option() -> None:
    with pytest.raises(OutOfMemoryError, match="--max-memory"):
        HoughVoting()(MatchContext(random_features(9, 9), random_features(9, 9), 100))
