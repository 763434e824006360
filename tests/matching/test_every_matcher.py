"""What holds for every registered matcher."""

import gc
from dataclasses import fields

import pytest
import torch
from torch import Tensor

from geomatch.errors import InputError
from geomatch.matching.load import load_matcher
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


@pytest.mark.parametrize("name", MATCHERS.entries)
def test_every_matcher_frees_its_tensors_without_a_search_for_cycles(name: str) -> None:
    """Python searches for cycles by the count of objects; the few and large tensors of a batch would pile up."""
    if name.startswith(("roi-nn", "scnet")):
        pytest.importorskip("cv2")
    features = random_features(6, 7, channels=4, sigma=0.1)
    if name.startswith("scnet"):
        features = Embedded().complete(features)
    match_features(name, features, features)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        match_features(name, features, features)
        gc.collect()
        assert [each for each in gc.garbage if isinstance(each, Tensor)] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("name", MATCHERS.entries)
def test_every_matcher_finds_the_same_on_any_number_of_threads(name: str) -> None:
    """To the last bit: how many threads a match of a batch has depends on what runs beside it."""
    if name.startswith(("roi-nn", "scnet")):
        pytest.importorskip("cv2")
    pair = [random_features(18, 16, channels=4, sigma=0.1, seed=seed) for seed in (0, 1)]
    if name.startswith("scnet"):
        pair = [Embedded().complete(each) for each in pair]
    usual, found = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        try:
            found.append(match_features(name, pair[0], pair[1]))
        finally:
            torch.set_num_threads(usual)
    assert torch.equal(found[0].flow, found[1].flow)
    assert torch.equal(found[0].confidence, found[1].confidence)


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
