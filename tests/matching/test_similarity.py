import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geomatch.errors import OutOfMemoryError
from geomatch.matching import similarity as search
from geomatch.matching.nearest import nearest_partners
from geomatch.matching.similarity import best_partners, row_blocks
from tests.conftest import random_features

CPU = torch.device("cpu")


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_partners_are_the_first_maxima_of_the_whole_matrix(rows: int, columns: int, seed: int) -> None:
    """Scores of few distinct values, so that ties are everywhere."""
    scores = np.random.default_rng(seed).integers(-3, 3, (rows, columns)).astype(np.float32)
    whole = torch.from_numpy(scores)
    found = best_partners(lambda start, stop: whole[start:stop], (rows, columns), 1 << 20, CPU)
    assert (found.forward.numpy() == scores.argmax(axis=1)).all()
    assert (found.backward.numpy() == scores.argmax(axis=0)).all()


@pytest.mark.parametrize("max_bytes", [12 * 300, 12 * 300 * 7, 1 << 30])
def test_the_memory_bound_does_not_change_the_result(max_bytes: int) -> None:
    source, target = random_features(11, 13, seed=1), random_features(20, 15, seed=2)
    similarity = source.descriptors.flatten(1).double().mT @ target.descriptors.flatten(1).double()
    found = nearest_partners(source, target, max_bytes)
    assert (found.forward == similarity.argmax(dim=1)).all()
    assert (found.backward == similarity.argmax(dim=0)).all()


def test_no_block_of_scores_exceeds_the_memory_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_CACHED_SCORES", 10**9)
    for rows, columns, max_bytes in [(1000, 300, 10_000), (5, 1, 12), (12_544, 12_544, 2 << 20)]:
        blocks = list(row_blocks(rows, columns, max_bytes))
        assert max(stop - start for start, stop in blocks) * columns * 4 * 3 <= max_bytes
        assert [start for start, _ in blocks] == [0, *(stop for _, stop in blocks[:-1])]
        assert blocks[-1][1] == rows


def test_a_bound_too_small_for_one_row_names_the_option() -> None:
    with pytest.raises(OutOfMemoryError, match="--max-memory"):
        nearest_partners(random_features(9, 9), random_features(9, 9), 100)
