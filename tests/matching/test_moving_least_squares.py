import numpy as np
import pytest
import torch

from geomatch.geometry.grid import Grid
from geomatch.matching.affine_consistency.moving_least_squares import OUTLIER_DISTANCE, ROUNDS, moving_least_squares

GRID = Grid.over((90, 120), 9, 12)
AS_IT_IS, MIRRORED, TURNED = ((1.0, 0.0), (0.0, 1.0)), ((-0.8, 0.1), (0.0, 1.3)), ((0.5, -0.5), (0.5, 0.5))


def affine(matrix: tuple[tuple[float, float], tuple[float, float]]) -> torch.Tensor:
    return GRID.centres() / 120 @ torch.tensor(matrix).mT + torch.tensor((0.2, -0.1))


@pytest.mark.parametrize("matrix", [AS_IT_IS, MIRRORED, TURNED])
def test_moving_least_squares_keeps_affine_matches(
    matrix: tuple[tuple[float, float], tuple[float, float]],
) -> None:
    points = affine(matrix)
    weight = torch.rand(len(points), generator=torch.Generator().manual_seed(0)) + 0.1
    torch.testing.assert_close(moving_least_squares(GRID, points, weight, 3.0), points, atol=0.015, rtol=0)


def test_moving_least_squares_resists_a_fifth_of_outliers() -> None:
    points = affine(MIRRORED)
    random = torch.Generator().manual_seed(1)
    outlier = torch.rand(len(points), generator=random) < 0.2
    moved = torch.where(outlier[:, None], 3 * torch.rand(points.shape, generator=random) - 1, points)
    predicted = moving_least_squares(GRID, moved, torch.ones(len(points)), 3.0)
    assert float((moved - points).norm(dim=1)[outlier].median()) > 0.5
    assert float((predicted - points).norm(dim=1).median()) < 0.015
    assert float((predicted - points).norm(dim=1).max()) < 0.1


def test_moving_least_squares_equals_a_slow_loop() -> None:
    random = np.random.default_rng(2)
    points, weight = random.random((108, 2)), random.random(108)
    cells, deviation = GRID.cells().numpy().astype(np.float64), 2.0
    robust = np.ones(108)
    for _ in range(ROUNDS):
        predicted = np.empty((108, 2))
        for i in range(108):
            near = np.exp(-((cells - cells[i]) ** 2).sum(axis=1) / (2 * deviation**2)) * weight * robust
            share = near / near.sum()
            moved = (cells - share @ cells) / deviation
            root = np.sqrt(share)[:, None]
            left = np.vstack((root * moved, 0.1 * np.eye(2)))
            right = np.vstack((root * (points - share @ points), np.zeros((2, 2))))
            slopes = np.linalg.lstsq(left, right, rcond=None)[0]
            predicted[i] = share @ points + moved[i] @ slopes
        robust = (1 + ((predicted - points) ** 2).sum(axis=1) / OUTLIER_DISTANCE**2) ** -2.0
    found = moving_least_squares(GRID, torch.from_numpy(points).float(), torch.from_numpy(weight).float(), deviation)
    np.testing.assert_allclose(found.numpy(), predicted, atol=1e-4)


def test_moving_least_squares_without_weight_is_finite() -> None:
    assert bool(moving_least_squares(GRID, affine(AS_IT_IS), torch.zeros(108), 2.0).isfinite().all())
    alone = Grid.over((1, 1), 1, 1)
    assert bool(moving_least_squares(alone, torch.zeros(1, 2), torch.ones(1), 0.1).isfinite().all())
