"""Neighbours of images: exact, in the order of the list where they tie, and the same from any file and block size."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geomatch.batch.neighbours import find_neighbours, most_similar
from tests.stub import picture, stub_pipeline


def by_sorting(vectors: NDArray[np.float64], count: int, unusable: list[int]) -> list[list[int]]:
    """The definition, a row at a time."""
    found = []
    for row, vector in enumerate(vectors):
        scores = {place: 9.0 if place in unusable else -float(vector @ each) for place, each in enumerate(vectors)}
        others = sorted((place for place in scores if place != row), key=lambda place: (scores[place], place))
        found.append(others[:count])
    return found


@settings(max_examples=40)
@given(st.integers(2, 12), st.integers(1, 12), st.integers(0, 2**32 - 1), st.sampled_from([1, 200, 1 << 20]))
def test_most_similar_is_a_stable_sort(total: int, count: int, seed: int, max_bytes: int) -> None:
    """Small whole numbers tie often, and their products are exact."""
    draw = np.random.default_rng(seed)
    vectors = draw.integers(-1, 2, (total, 3)).astype(np.float64)
    vectors /= 2  # scores below -2 stand for images that cannot be used
    unusable = [place for place in range(total) if draw.random() < 0.2]
    found = most_similar(vectors, count, unusable, max_bytes)
    assert found.tolist() == by_sorting(vectors, count, unusable)


@pytest.fixture
def collection(tmp_path: Path) -> list[Path]:
    """Two views of either of two scenes, and a file that is no image."""
    views = {"a1": (0, 0), "b1": (120, 90), "a2": (3, 2), "b2": (117, 92)}
    for name, (left, top) in views.items():
        picture(48, 64, left, top).save(tmp_path / f"{name}.png")
    (tmp_path / "c.png").write_text("not an image")
    return sorted(tmp_path.iterdir())


def test_neighbours_are_views_of_the_same_scene(collection: list[Path]) -> None:
    found = find_neighbours(collection, stub_pipeline(), 1)
    names = [(source.stem, target.stem) for source, target in found.pairs]
    assert names == [("a1", "a2"), ("a2", "a1"), ("b1", "b2"), ("b2", "b1"), ("c", "a1")]
    assert sorted(found.extracted) == collection[:4]


def test_neighbours_beyond_the_collection_are_all_others(collection: list[Path]) -> None:
    seen: list[object] = []
    found = find_neighbours(collection, stub_pipeline(), 9, lambda: seen.append(None))
    assert set(found.pairs) == {(a, b) for a in collection for b in collection if a != b}
    assert len(found.pairs) == 20
    assert len(seen) == 5
    assert [target.stem for _, target in found.pairs[:4]][0::3] == ["a2", "c"]
