"""What holds for every registered matcher."""

import gc
import weakref
from dataclasses import fields

import pytest
import torch

from geomatch.errors import InputError
from geomatch.matching.load import load_matcher
from geomatch.matching.similarity import Similarity
from geomatch.registry import MATCHERS
from tests.conftest import random_features
from tests.stub import Embedded, match_features


@pytest.mark.parametrize("name", [*MATCHERS.entries, *MATCHERS.aliases])
def test_every_matcher_matches_identical_images(name: str) -> None:
    if name.startswith(("roi-nn", "scnet")):
        pytest.importorskip("cv2")
    features = random_features(6, 7, channels=32, sigma=0.1)
    if name.startswith("scnet"):
        features = Embedded().complete(random_features(6, 7, channels=4, sigma=0.1))
    found = match_features(name, features, features)
    assert found.flow.abs().max() < 1e-4
    assert bool(found.valid.all())


@pytest.mark.parametrize("name", ["nn", "hough", "dsp", "affine", "fusion"])
def test_matcher_leaves_no_similarities_to_the_collector(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of large grids they are 100 MB a pair, and the command collects cycles rarely."""
    stored: list[weakref.ref[torch.Tensor]] = []
    multiplied, store = Similarity.reversed, Similarity.store_if_small

    def kept(of: Similarity, max_bytes: int) -> Similarity:
        made = store(of, max_bytes)
        stored.extend(weakref.ref(each) for each in (made.stored, made) if each is not None)
        return made

    def turned(of: Similarity) -> Similarity:
        made = multiplied.fget(of)  # type: ignore[attr-defined]
        stored.extend(weakref.ref(each) for each in (made.stored, made) if each is not None)
        return made

    monkeypatch.setattr(Similarity, "store_if_small", kept)
    monkeypatch.setattr(Similarity, "reversed", property(turned))
    features = random_features(6, 7, channels=32, sigma=0.1), random_features(5, 8, channels=32, sigma=0.1, seed=1)
    gc.collect()
    gc.disable()
    try:
        found = match_features(name, *features)
        assert found.flow.shape[0] == 2
        assert len(stored) >= 2
        assert [each() for each in stored if each() is not None] == []
    finally:
        gc.enable()


@pytest.mark.parametrize("name", MATCHERS.entries)
def test_every_matcher_parameter_has_limits(name: str) -> None:
    method = load_matcher(name)
    numbers = {each.name for each in fields(method) if isinstance(getattr(method, each.name), int | float)}
    assert set(method.limits) == numbers
    for parameter, (least, most) in method.limits.items():
        assert least <= getattr(method, parameter) <= most
        outside: list[float] = [least - 1, int(most) + 1]
        if isinstance(getattr(method, parameter), float):
            outside.append(float("nan"))
        for value in outside:
            with pytest.raises(InputError, match=rf"{parameter} is .* it must be between"):
                load_matcher(name, {parameter: value})


def test_load_matcher_answers_errors_with_known_names() -> None:
    with pytest.raises(InputError, match="nn, mutual, hough"):
        load_matcher("sift-flow")
    with pytest.raises(InputError, match="nn has no parameter 'blur': it has window, temperature"):
        load_matcher("nn", {"blur": 1})
    with pytest.raises(InputError, match="'wide' is not a whole number"):
        load_matcher("nn", {"window": "wide"})
