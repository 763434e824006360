import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geomatch.errors import GeomatchWarning, InputError
from geomatch.runtime.shard import Shard


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(1, 12))
def test_shards_divide_a_list_evenly(length: int, count: int) -> None:
    items = list(range(length))
    parts = [Shard(number, count).part(items) for number in range(count)]
    assert [item for part in parts for item in part] == items
    lengths = [len(part) for part in parts]
    assert max(lengths) - min(lengths) <= 1


def test_shard_from_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert Shard.from_environment() == Shard(0, 1)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert Shard.from_environment() == Shard(2, 3)
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(InputError, match="RANK=3"):
        Shard.from_environment()


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ({"RANK": "2"}, "RANK=2 in the environment is ignored, since WORLD_SIZE is not set"),
        ({"WORLD_SIZE": "4"}, "WORLD_SIZE=4 in the environment is ignored, since RANK is not set"),
    ],
)
def test_shard_a_leftover_of_a_launcher_is_ignored_and_said(
    left: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    with pytest.warns(GeomatchWarning, match=said):
        assert Shard.from_environment() == Shard(0, 1)


def test_shard_harmless_leftovers_are_ignored_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("SLURM_NTASKS", "8"), ("SLURM_PROCID", "3")):
        monkeypatch.setenv(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Shard.from_environment() == Shard(0, 1)
