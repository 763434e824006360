import numpy as np
import pytest
import torch

from geomatch.correspondence import RegionMatches
from geomatch.geometry.grid import Grid
from geomatch.matching.proposal_flow.region_flow import (
    MOST_BOXES,
    flow_from_regions,
    follow_agreeing_boxes,
    follow_best_box,
    lattice_over,
    map_with_boxes,
    stretch_over,
)


def random_boxes(count: int, width: float, height: float, seed: int) -> np.ndarray:
    corners = np.sort(np.random.default_rng(seed).uniform(-0.5, 1, (count, 2, 2)) * (width, height), axis=1)
    return corners.reshape(count, 4).astype(np.float32)


def test_lattice_over_has_at_most_one_point_a_pixel() -> None:
    assert lattice_over((300, 400), 200).shape == (150, 200)
    assert lattice_over((30, 40), 200).shape == (30, 40)
    assert lattice_over((2000, 1), 200).shape == (200, 1)


def test_map_with_boxes_worked_by_hand() -> None:
    """A quarter from the left and half-way down a box of 20 x 40, which becomes one of 8 x 8."""
    moved = map_with_boxes(
        torch.tensor([[15.0, 40.0]]), torch.tensor([[10.0, 20, 30, 60]]), torch.tensor([[100.0, 0, 108, 8]])
    )
    assert moved.tolist() == [[102, 4]]


def slow_flow(source: np.ndarray, target: np.ndarray, grid: Grid, other: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Positions (P, 2), and which of them hold (P,), box after box and point after point."""
    centres = grid.centres().numpy()
    positions, score = np.full((len(centres), 2), np.nan), np.full(len(centres), -1)
    for rank, (box, partner) in enumerate(zip(source, target, strict=True)):
        for point, (x, y) in enumerate(centres):
            if score[point] < 0 and box[0] <= x <= box[2] and box[1] <= y <= box[3]:
                positions[point, 0] = partner[0] + (x - box[0]) * (partner[2] - partner[0]) / (box[2] - box[0])
                positions[point, 1] = partner[1] + (y - box[1]) * (partner[3] - partner[1]) / (box[3] - box[1])
                score[point] = len(source) - rank
    taken: dict[tuple[int, int], int] = {}
    known = score > 0
    for point in np.flatnonzero(known):
        cell = np.round((positions[point] - other.origin) / other.pitch)
        place = tuple(np.clip(cell, 0, (other.width - 1, other.height - 1)).astype(int).tolist())
        if place in taken and score[taken[place]] >= score[point]:
            known[point] = False
        else:
            if place in taken:
                known[taken[place]] = False
            taken[place] = point
    return positions, known


@pytest.mark.parametrize("seed", range(5))
def test_follow_best_box_equals_a_slow_loop(seed: int) -> None:
    grid, other = Grid.over((50, 70), 10, 14), Grid.over((80, 60), 12, 9)
    source, target = random_boxes(12, 70, 50, seed), random_boxes(12, 60, 80, seed + 100)
    expected, kept = slow_flow(source, target, grid, other)
    matched = RegionMatches(torch.from_numpy(source), torch.from_numpy(target), torch.linspace(1, 0.1, 12))
    positions, known = follow_best_box(matched, grid, other)
    held = np.isfinite(expected[:, 0])
    np.testing.assert_allclose(positions[held], expected[held], atol=1e-4)
    assert 0 < kept.sum() < held.sum()
    assert (known.numpy() == kept).all()


def slow_agreement(source: np.ndarray, target: np.ndarray, score: np.ndarray, grid: Grid, reach: float) -> np.ndarray:
    """Positions (P, 2), NaN for points that no box holds, point after point and box after box."""
    positions = np.full((grid.height * grid.width, 2), np.nan)
    for point, place in enumerate(grid.centres().double().numpy()):
        predictions = []
        for box, partner, worth in zip(source.astype(float), target.astype(float), score, strict=True):
            side = box[2:] - box[:2]
            if (box[:2] <= place).all() and (place <= box[2:]).all() and len(predictions) < MOST_BOXES:
                sent = partner[:2] + (place - box[:2]) / side * (partner[2:] - partner[:2])
                predictions.append((sent, worth / side.prod()))
        most = 0.0
        for centre, _ in predictions:
            near = [weight * np.exp(-((sent - centre) ** 2).sum() / (2 * reach**2)) for sent, weight in predictions]
            if sum(near) > most:
                most = sum(near)
                sums = [weight * sent for weight, (sent, _) in zip(near, predictions, strict=True)]
                positions[point] = np.sum(sums, axis=0) / most
    return positions


@pytest.mark.parametrize(("seed", "count"), [(0, 12), (1, 12), (2, 150)])
def test_follow_agreeing_boxes_equals_a_slow_loop(seed: int, count: int) -> None:
    grid = Grid.over((50, 70), 10, 14)
    source, target = random_boxes(count, 70, 50, seed), random_boxes(count, 60, 80, seed + 100)
    score = np.sort(np.random.default_rng(seed).uniform(0.1, 1, count).astype(np.float32))[::-1].copy()
    expected = slow_agreement(source, target, score, grid, reach=6)
    matched = RegionMatches(*map(torch.from_numpy, (source, target, score)))
    for max_bytes in (1 << 24, 80_000):
        positions, known = follow_agreeing_boxes(matched, grid, 6, max_bytes)
        assert known.any()
        assert (known.numpy() == np.isfinite(expected[:, 0])).all()
        np.testing.assert_allclose(positions[known], expected[known], atol=2e-3)


def test_two_agreeing_boxes_outweigh_a_better_one() -> None:
    """Boxes of one size hold the only point; the best moves it by 50, two that are worth .6 each by 10 and 12."""
    box = torch.tensor([0.0, 0, 9, 9])
    moved = torch.stack([box + shift for shift in (50, 10, 12)])
    matched = RegionMatches(box.repeat(3, 1), moved, torch.tensor([1, 0.6, 0.6]))
    point = Grid.over((9, 9), 1, 1)
    positions, _ = follow_agreeing_boxes(matched, point, 4, 1 << 20)
    near = np.exp(-(2**2 + 2**2) / (2 * 4**2))
    torch.testing.assert_close(positions[0] - 4, torch.full((2,), (10 + 12 * near) / (1 + near)).float())
    positions, _ = follow_best_box(matched, point, point)
    assert positions[0].tolist() == [54, 54]


@pytest.mark.parametrize("reach", [0, 5])
def test_flow_from_regions_fills_points_in_no_box(reach: float) -> None:
    """The left half moves by (6, 2); no match holds the right half, so it moves along."""
    grid = Grid.over((40, 60), 20, 30)
    box = torch.tensor([[-0.5, -0.5, 29.5, 39.5]])
    regions = RegionMatches(
        box.repeat(2, 1), torch.cat((box + torch.tensor([6.0, 2, 6, 2]), box)), torch.tensor([1, 0.0])
    )
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    points = flow_from_regions(regions, grid, grid, image, smoothness=20, reach=reach, max_bytes=1 << 20)
    torch.testing.assert_close(points.displacements(), torch.tensor([6.0, 2.0]).expand(600, 2), atol=1e-3, rtol=0)
    assert points.found is None


def test_stretch_over_finds_no_point() -> None:
    grid, other = Grid.over((40, 60), 4, 6), Grid.over((20, 90), 2, 9)
    regions = RegionMatches(torch.zeros(1, 4), torch.zeros(1, 4), torch.zeros(1))
    points = stretch_over(regions, grid, other)
    assert points.found is not None
    assert not points.found.any()
    torch.testing.assert_close(points.positions + 0.5, (grid.centres() + 0.5) * torch.tensor([1.5, 0.5]))
