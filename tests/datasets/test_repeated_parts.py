import numpy as np
import pytest

from geomatch.datasets.benchmarks.repeated_parts import AP_10K, SPAIR, geometry_aware


def aware_of_authors(groups: object, in_source: list[bool], in_target: list[bool]) -> list[int]:
    """``convert_all_results`` of GeoAware-SC's ``eval_spair.py``, line by line: the numbers of the subset."""
    both = [a and b for a, b in zip(in_source, in_target, strict=True)]
    found = []
    for group in groups:
        shared = [number for number in group if both[number]]
        if len([number for number in group if in_target[number]]) >= 2 and len(shared) >= 1:
            found += shared
    return sorted(found)


@pytest.mark.parametrize("groups", [*SPAIR.values(), AP_10K], ids=[*SPAIR, "ap-10k"])
def test_subset_is_that_of_the_authors(groups: object) -> None:
    chance = np.random.default_rng(0)
    for _ in range(20):
        in_source, in_target = (chance.random((2, 30)) < 0.6).tolist()
        shared = [number for number in range(30) if in_source[number] and in_target[number]]
        subset = geometry_aware(groups, shared, {number for number in range(30) if in_target[number]})
        assert np.array(shared)[subset].tolist() == aware_of_authors(groups, in_source, in_target)


def test_groups_are_disjoint_and_known() -> None:
    assert len(SPAIR) == 18
    for groups in (*SPAIR.values(), AP_10K):
        numbers = [number for group in groups for number in group]
        assert len(set(numbers)) == len(numbers)
        assert all(0 <= number < 30 for number in numbers)
        assert all(len(group) > 1 for group in groups)
