"""Opposite sides, as keypoints show them, against least-squares fits of both kinds of similarity."""

import numpy as np
import pytest
from numpy.typing import NDArray

from geomatch.evaluation.metrics.side import seen_from_opposite_sides

Points = NDArray[np.float64]


def residual(source: Points, target: Points, sign: int) -> float:
    """Of the best map x' = a x - sign b y + c, y' = b x + sign a y + d: a reflection for sign -1."""
    x, y, one, zero = source[:, 0], source[:, 1], np.ones(len(source)), np.zeros(len(source))
    rows = np.concatenate([np.stack((x, -sign * y, one, zero), 1), np.stack((sign * y, x, zero, one), 1)])
    fitted = np.linalg.lstsq(rows, target.T.ravel(), rcond=None)[0]
    return float(((rows @ fitted - target.T.ravel()) ** 2).sum())


@pytest.mark.parametrize("seed", range(20))
def test_side_is_that_of_the_better_fit(seed: int) -> None:
    source, target = np.random.default_rng(seed).normal(size=(2, 6, 2))
    assert seen_from_opposite_sides(source, target) == (residual(source, target, -1) < residual(source, target, 1))


def test_side_survives_rotation_scale_and_noise() -> None:
    random = np.random.default_rng(0)
    points, noise = random.normal(size=(8, 2)), random.normal(size=(8, 2)) * 0.05
    turn = np.array([[np.cos(2), -np.sin(2)], [np.sin(2), np.cos(2)]])
    assert seen_from_opposite_sides(points, 3 * points @ turn + 7 + noise) is False
    assert seen_from_opposite_sides(points, 3 * (points * [-1, 1]) @ turn + 7 + noise) is True


def test_side_of_two_points_is_unknown() -> None:
    assert seen_from_opposite_sides(np.eye(2), np.eye(2)) is None
