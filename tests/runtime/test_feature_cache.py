from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event

import pytest

from geomatch.correspondence import FeatureMap
from geomatch.datasets.pairs import ImageFile
from geomatch.errors import InputError
from geomatch.runtime.feature_cache import FeatureCache
from tests.conftest import random_features

SIZE = random_features(2, 2).descriptors.nbytes


def computations(schedule: str, fits: int) -> str:
    """The images, in order, that are computed when ``fits`` of them can be kept."""
    images = [ImageFile(Path(name), name) for name in schedule]
    computed: list[str] = []

    def extract(image: ImageFile) -> FeatureMap:
        computed.append(image.name)
        return random_features(2, 2, seed=ord(image.name))

    cache = FeatureCache(extract, images, max_bytes=fits * SIZE)
    for image in images:
        expected = random_features(2, 2, seed=ord(image.name)).descriptors
        assert (cache(image).descriptors == expected).all()
    assert cache.computed == len(computed)
    return "".join(computed)


def test_cache_computes_each_image_once_if_all_fit() -> None:
    assert computations("abacbcab", fits=3) == "abc"


def test_cache_drops_first_what_is_needed_last() -> None:
    """When c comes, a is needed sooner than b; when d comes, c is needed last."""
    assert computations("abcacbdb", fits=2) == "abcbd"


def test_cache_drops_what_is_not_needed_again() -> None:
    assert computations("abacada", fits=1) == "abcd"


def test_cache_computes_as_little_as_any_eviction() -> None:
    """Belady's choice against every possible one, by exhaustive search."""

    def fewest(position: int, kept: frozenset[str]) -> int:
        if position == len(schedule):
            return 0
        name = schedule[position]
        cost = 0 if name in kept else 1
        held = kept | {name}
        choices = [held] if len(held) <= 2 else [held - {other} for other in held]
        return cost + min(fewest(position + 1, choice) for choice in choices)

    for schedule in ("abcabcabc", "abcdabdcab", "aabcbdacdb"):
        assert len(computations(schedule, fits=2)) == fewest(0, frozenset())


def test_cache_computes_once_for_several_threads() -> None:
    started, go_on, computed = Barrier(2), Event(), []

    def extract(name: str) -> FeatureMap:
        computed.append(name)
        started.wait(timeout=120)
        go_on.wait(timeout=120)
        return random_features(2, 2)

    cache = FeatureCache(extract, ["a"] * 4)
    with ThreadPoolExecutor(4) as threads:
        found = [threads.submit(cache, "a") for _ in range(4)]
        started.wait(timeout=120)
        go_on.set()
        assert len({id(each.result()) for each in found}) == 1
    assert computed == ["a"]


def test_cache_raises_an_error_each_time_but_tries_once() -> None:
    tried = []

    def extract(name: str) -> FeatureMap:
        tried.append(name)
        raise InputError(f"{name}: no such file")

    cache = FeatureCache(extract, ["a", "a"])
    for _ in range(2):
        with pytest.raises(InputError, match="a: no such file"):
            cache("a")
    assert tried == ["a"]
