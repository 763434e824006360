import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from geomatch.geometry.grid import Grid
from geomatch.matching.base import TargetPoints
from geomatch.matching.mutual import _fill, is_mutual
from tests.conftest import random_features
from tests.stub import match_features


@given(st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_is_mutual_equals_a_slow_loop(slack: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    there, back = random.integers(0, 12, 20), random.integers(0, 20, 12)  # 4 x 5 cells to 3 x 4 and back
    expected = [
        max(abs(back[j] // 5 - i // 5), abs(back[j] % 5 - i % 5)) <= slack
        for i, j in zip(range(20), there, strict=True)
    ]
    found = is_mutual(torch.from_numpy(there), torch.from_numpy(back), 5, slack)
    assert found.tolist() == expected


def test_fill_takes_the_mean_of_found_neighbours() -> None:
    grid = Grid.over((30, 50), 3, 5)
    found = torch.zeros(3, 5, dtype=torch.bool)
    found[1, 0] = found[0, 2] = True
    moves = torch.full((15, 2), 99.0)
    moves[5], moves[2] = torch.tensor([4.0, 0.0]), torch.tensor([0.0, 8.0])
    filled = _fill(TargetPoints(grid, grid.centres() + moves, found.flatten()), found.flatten()).displacements()
    filled = filled.reshape(3, 5, 2)
    assert filled[0, 0].tolist() == [4, 0]  # beside the one
    assert filled[1, 1].tolist() == [2, 4]  # between both
    assert filled[1, 3].tolist() == [0, 8]  # beside the other
    # A ring further out, so the mean of (0, 3), (1, 3) and (2, 3), which was itself reached from (1, 1) to (1, 3).
    assert filled[0, 4].tolist() == [0, 8]


def test_mutual_matches_identical_images_to_themselves() -> None:
    features = random_features(6, 7, channels=32, sigma=0.1)
    found = match_features("mutual", features, features, {"window": 0, "slack": 0})
    assert found.flow.abs().max() < 1e-4
    assert bool(found.valid.all())


def test_mutual_only_found_cells_are_valid() -> None:
    source, target = random_features(8, 9), random_features(7, 6, seed=1)
    found = match_features("mutual", source, target, {"slack": 0})
    loose = match_features("mutual", source, target, {"slack": 2})
    assert 0 < found.valid.float().mean() < loose.valid.float().mean()
    assert bool(found.flow.isfinite().all())
