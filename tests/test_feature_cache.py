from pathlib import Path

from geomatch.correspondence import FeatureMap
from geomatch.datasets.pairs import ImageFile
from geomatch.feature_cache import FeatureCache
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
