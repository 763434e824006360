"""Measures of AnchorNet's response maps: worked by hand, or by loops over cells and channels."""

import math

import numpy as np
import pytest
import torch

from geomatch.evaluation.metrics.anchors import (
    class_scores,
    coverage,
    diversity,
    object_map,
    peaks,
    peaks_in,
    sparsity,
    strongest_channels,
)
from geomatch.geometry.grid import Grid
from geomatch.training.objects.crops import CandidateBoxes


def random_maps(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random(shape)).float()


def firing_on(*cells: tuple[int, int], height: int = 10, width: int = 10) -> torch.Tensor:
    """One channel for each (row, column), 1 there and 0 elsewhere."""
    maps = torch.zeros(len(cells), height, width)
    for channel, (row, column) in enumerate(cells):
        maps[channel, row, column] = 1
    return maps


def test_sparsity_equals_energy_of_sorted_cells() -> None:
    maps = random_maps(2, 3, 8, 15)  # 5 % of 120 cells are 6
    for image, bank in enumerate(maps):
        for channel, each in enumerate(bank):
            energy = sorted((float(value) ** 2 for value in each.flatten()), reverse=True)
            assert float(sparsity(maps)[image, channel]) == pytest.approx(sum(energy[:6]) / sum(energy), abs=1e-6)


def test_sparsity_of_spot_flat_map_and_zeros() -> None:
    maps = torch.stack([firing_on((3, 4))[0], torch.full((10, 10), 0.3), torch.zeros(10, 10)])
    torch.testing.assert_close(sparsity(maps), torch.tensor([1, 0.05, 0], dtype=torch.float64))
    assert float(sparsity(torch.ones(3, 3))) == pytest.approx(1 / 9)  # of few cells, one


def test_sparsity_and_diversity_ignore_scale() -> None:
    maps = random_maps(4, 9, 11)
    scaled = maps * torch.tensor([1e-12, 1, 30, 1e6])[:, None, None]
    torch.testing.assert_close(sparsity(scaled), sparsity(maps))
    torch.testing.assert_close(diversity(scaled), diversity(maps))


def test_diversity_is_mean_cosine_of_pairs() -> None:
    maps = random_maps(2, 5, 6, 7)
    for image, bank in enumerate(maps.double().numpy()):
        flat = bank.reshape(5, -1)
        cosines = [
            flat[i] @ flat[j] / np.linalg.norm(flat[i]) / np.linalg.norm(flat[j]) for i in range(5) for j in range(i)
        ]
        assert float(diversity(maps)[image]) == pytest.approx(np.mean(cosines), abs=1e-6)


def test_diversity_of_disjoint_equal_and_single_maps() -> None:
    assert float(diversity(firing_on((0, 0), (5, 5), (9, 1)))) == 0
    assert float(diversity(random_maps(1, 6, 6).expand(4, 6, 6))) == pytest.approx(1)
    assert math.isnan(float(diversity(random_maps(1, 6, 6))))


def test_peak_of_equal_cells_is_the_first() -> None:
    maps = firing_on((2, 3), (9, 9))
    maps[0, 7, 1] = 1
    assert peaks(maps).tolist() == [23, 99]


def test_peaks_in_boxes_by_pixel() -> None:
    grid = Grid.over((50, 100), 10, 10)  # cell (row, column) is centred on pixel x = 10 column + 4.5, y = 5 row + 2
    maps = firing_on((0, 0), (4, 4), (4, 5), (9, 9))
    assert peaks_in([(44.5, 22, 54.5, 22)], maps, grid) == 0.5  # edges belong to the box
    assert peaks_in([(44.6, 20, 54.4, 24)], maps, grid) == 0
    assert peaks_in([(40, 20, 60, 24), (0, 0, 10, 10), (0, 0, 5, 5)], maps, grid) == 0.75


def test_coverage_equals_loop_over_cells() -> None:
    grid = Grid.over((120, 160), 12, 16)
    box = (20.0, 10.0, 140.0, 105.0)  # 12 pixels are near
    maps = random_maps(5, 12, 16)
    tips = [divmod(int(channel.argmax()), 16) for channel in maps]
    covered = []
    for row in range(12):
        for column in range(16):
            x, y = 10 * column + 4.5, 10 * row + 4.5
            if 20 <= x <= 140 and 10 <= y <= 105:
                distances = [math.dist((x, y), (10 * c + 4.5, 10 * r + 4.5)) for r, c in tips]
                covered.append(min(distances) <= 12)
    assert 0 < sum(covered) < len(covered)
    assert coverage(box, maps, grid) == pytest.approx(np.mean(covered))


def test_coverage_counts_each_cell_once_inside_the_box() -> None:
    grid = Grid.over((100, 100), 10, 10)
    box = (-0.5, -0.5, 99.5, 99.5)  # all of it: 10 pixels are near, which is a cell's four neighbours
    assert coverage(box, firing_on((5, 5)), grid) == 0.05
    assert coverage(box, firing_on((5, 5), (5, 5)), grid) == 0.05
    assert coverage(box, firing_on((5, 5), (0, 0)), grid) == 0.08  # in the corner, two neighbours
    assert coverage((-0.5, -0.5, 49.5, 49.5), firing_on((9, 9)), grid) == 0
    assert math.isnan(coverage((1, 1, 2, 2), firing_on((0, 0)), grid))


def test_class_score_is_mean_margin_of_its_filters() -> None:
    maps = torch.zeros(4, 3, 3)
    maps[0, 0, 0], maps[1, 2, 2], maps[1, 0, 1], maps[3, 1, 1] = 4, 2, 1, 5
    thresholds = torch.tensor([1.0, 3, 0, 0])
    assert class_scores(maps, thresholds, 2).tolist() == [1, 2.5]
    assert class_scores(torch.stack([maps, 2 * maps]), thresholds, 2).tolist() == [[1, 2.5], [4, 5]]


def test_strongest_channels_rank_by_mean_stably() -> None:
    maxima = torch.tensor([[1.0, 9.0, 2.0, 5.0, 0.0], [9.0, 1.0, 3.0, 5.0, 0.0]])
    assert strongest_channels(maxima, 4) == [0, 1, 3, 2]
    assert strongest_channels(maxima, 9) == [0, 1, 3, 2, 4]


def test_object_map_weighs_channels_equally_and_sums_to_zero() -> None:
    maps = firing_on((0, 0), (1, 1)) * torch.tensor([1.0, 100.0])[:, None, None]
    evidence = object_map(maps)
    assert float(evidence[0, 0]) == float(evidence[1, 1]) == pytest.approx(0.98)
    assert float(evidence.sum()) == pytest.approx(0, abs=1e-5)


def test_object_map_best_box_is_where_anchors_fire() -> None:
    maps = torch.full((6, 10, 10), 0.1)
    for channel, (row, column) in enumerate([(2, 3), (2, 7), (3, 5), (5, 3), (6, 7), (6, 5)]):
        maps[channel, row - 1 : row + 2, column - 1 : column + 2] = 1
    [(box, _)] = CandidateBoxes.of_unit_square().best(object_map(maps)[None])
    assert box == pytest.approx((0.2, 0.1, 0.9, 0.8))  # left, top, right, bottom of rows 1 to 7, columns 2 to 8
