import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geomatch.errors import InputError
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
