"""Names and order of a batch; what it does is tested as the command does it."""

import os
import threading
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from geomatch.batch import in_order, lay_out, unique_names


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
