"""Names, shares and order of a batch; what it does is tested as the command does it."""

import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geomatch.batch import Share, in_order, lay_out, unique_names
from geomatch.errors import InputError


@given(st.lists(st.sampled_from(["a", "A", "a-2", "a-3", "b", "\u00e9", "e\u0301", "x" * 300, "\u00e9" * 150])))
def test_names_never_collide_whatever_the_file_system_makes_of_them(names: list[str]) -> None:
    unique = list(unique_names(names))
    assert len({name.casefold().replace("e\u0301", "\u00e9") for name in unique}) == len(names)
    assert all(len(os.fsencode(name)) < 200 for name in unique)


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_a_list_that_grows_at_its_end_keeps_its_names(first: list[str], more: list[str]) -> None:
    assert list(unique_names(first + more))[: len(first)] == list(unique_names(first))


def test_a_pair_s_folder_is_called_after_both_images() -> None:
    pairs = [(Path("cats/a.jpg"), Path("b.c.png")), (Path("dogs/a.jpg"), Path("b.c.png"))]
    assert [pair.folder for pair in lay_out(pairs, Path("out"))] == [Path("out/a--b.c"), Path("out/a--b.c-2")]


@given(st.integers(0, 40), st.integers(1, 12))
def test_shares_are_the_whole_list_once_and_equally_long(length: int, count: int) -> None:
    items = list(range(length))
    parts = [Share(number, count).part(items) for number in range(count)]
    assert [item for part in parts for item in part] == items
    lengths = [len(part) for part in parts]
    assert max(lengths) - min(lengths) <= 1


def test_a_share_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert Share.of_torchrun() == Share(0, 1)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert Share.of_torchrun() == Share(2, 3)
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(InputError, match="RANK=3"):
        Share.of_torchrun()


def test_results_come_in_order_from_threads_that_do_not_run_away() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.002 * (item % 3))
        return item * item

    results = in_order(work, range(200))
    assert next(results) == 0
    assert len(begun) < 40, "far ahead of who reads them"
    assert list(results) == [item * item for item in range(1, 200)]


def test_who_stops_reading_stops_the_threads() -> None:
    before = threading.active_count()
    results = in_order(lambda item: item, range(100))
    next(results)
    results.close()
    assert threading.active_count() == before
