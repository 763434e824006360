import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geomatch.errors import OutOfMemoryError
from geomatch.matching import similarity
from geomatch.matching.base import MatchContext
from geomatch.matching.nearest import nearest_partners
from geomatch.matching.similarity import Similarity, best_partners, row_blocks
from tests.conftest import random_features

CPU = torch.device("cpu")


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_best_partners_are_the_first_maxima(rows: int, columns: int, seed: int) -> None:
    """Scores of few distinct values, so that ties are everywhere."""
    scores = np.random.default_rng(seed).integers(-3, 3, (rows, columns)).astype(np.float32)
    whole = torch.from_numpy(scores)
    found = best_partners(lambda start, stop: whole[start:stop], (rows, columns), 1 << 20, CPU)
    assert (found.forward.numpy() == scores.argmax(axis=1)).all()
    assert (found.backward.numpy() == scores.argmax(axis=0)).all()


@pytest.mark.parametrize("max_bytes", [12 * 300, 12 * 300 * 7, 1 << 30])
def test_nearest_partners_are_the_same_under_any_memory(max_bytes: int) -> None:
    source, target = random_features(11, 13, seed=1), random_features(20, 15, seed=2)
    product = source.descriptors.flatten(1).double().mT @ target.descriptors.flatten(1).double()
    found = nearest_partners(MatchContext(source, target, max_bytes))
    assert (found.forward == product.argmax(dim=1)).all()
    assert (found.backward == product.argmax(dim=0)).all()


def test_row_blocks_stay_within_the_memory_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "_CACHED_SCORES", 10**9)
    for rows, columns, max_bytes in [(1000, 300, 10_000), (5, 1, 12), (12_544, 12_544, 2 << 20)]:
        blocks = list(row_blocks(rows, columns, max_bytes, CPU))
        assert max(stop - start for start, stop in blocks) * columns * 4 * 3 <= max_bytes
        assert [start for start, _ in blocks] == [0, *(stop for _, stop in blocks[:-1])]
        assert blocks[-1][1] == rows


def test_nearest_partners_without_memory_name_the_option() -> None:
    with pytest.raises(OutOfMemoryError, match="--max-memory"):
        nearest_partners(MatchContext(random_features(9, 9), random_features(9, 9), 100))


def test_context_reversed_twice_is_the_context() -> None:
    context = MatchContext(random_features(4, 5), random_features(6, 3, seed=1))
    assert context.reversed.reversed is context
    assert context.reversed.source is context.target
    assert context.reversed.target is context.source


def test_stored_similarity_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For both directions, whichever asks first; one is the other's transpose."""
    computed = []
    store = Similarity.store_if_small

    def counted(of: Similarity, max_bytes: int) -> Similarity:
        computed.append(of)
        return store(of, max_bytes)

    monkeypatch.setattr(Similarity, "store_if_small", counted)
    context = MatchContext(random_features(4, 5), random_features(6, 3, seed=1))
    backward = context.reversed.stored_similarity
    forward = context.stored_similarity
    assert len(computed) == 1
    assert context.stored_similarity is forward
    assert context.reversed.stored_similarity is backward
    assert forward.stored is not None
    assert backward.stored is not None
    assert torch.equal(backward.stored, forward.stored.mT)
