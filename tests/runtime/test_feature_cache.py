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

    def describe(image: ImageFile) -> FeatureMap:
        computed.append(image.name)
        return random_features(2, 2, seed=ord(image.name))

    cache = FeatureCache(describe, images, max_bytes=fits * SIZE)
    for image in images:
        expected = random_features(2, 2, seed=ord(image.name)).descriptors
        assert (cache(image).descriptors == expected).all()
    assert cache.computed == len(computed)
    return "".join(computed)


def test_every_image_is_computed_once_if_all_fit() -> None:
    assert computations("abacbcab", fits=3) == "abc"


def test_what_is_needed_latest_goes_first() -> None:
    """When c comes, a is needed sooner than b; when d comes, c is needed latest."""
    assert computations("abcacbdb", fits=2) == "abcbd"


def test_what_is_never_needed_again_takes_no_room() -> None:
    assert computations("abacada", fits=1) == "abcd"


def test_no_order_of_eviction_computes_less() -> None:
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


def test_threads_that_want_one_image_have_it_computed_once() -> None:
    started, go_on, computed = Barrier(2), Event(), []

    def describe(name: str) -> FeatureMap:
        computed.append(name)
        started.wait(timeout=10)
        go_on.wait(timeout=10)
        return random_features(2, 2)

    cache = FeatureCache(describe, ["a"] * 4)
    with ThreadPoolExecutor(4) as threads:
        found = [threads.submit(cache, "a") for _ in range(4)]
        started.wait(timeout=10)
        go_on.set()
        assert len({id(each.result()) for each in found}) == 1
    assert computed == ["a"]


def test_what_went_wrong_is_said_each_time_the_image_is_asked_for_but_tried_once() -> None:
    tried = []

    def describe(name: str) -> FeatureMap:
        tried.append(name)
        raise InputError(f"{name}: no such file")

    cache = FeatureCache(describe, ["a", "a"])
    for _ in range(2):
        with pytest.raises(InputError, match="a: no such file"):
            cache("a")
    assert tried == ["a"]
