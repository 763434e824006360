import os

from hypothesis import given
from hypothesis import strategies as st

from geomatch.io.names import unique_names


def test_unique_names_take_first_free_number() -> None:
    assert list(unique_names(["a", "b", "A", "a-2", "a"])) == ["a", "b", "A-2", "a-2-2", "a-3"]


@given(st.lists(st.sampled_from(["a", "A", "a-2", "a-3", "b", "\u00e9", "e\u0301", "x" * 300, "\u00e9" * 150])))
def test_unique_names_never_collide_on_any_file_system(names: list[str]) -> None:
    unique = list(unique_names(names))
    assert len({name.casefold().replace("e\u0301", "\u00e9") for name in unique}) == len(names)
    assert all(len(os.fsencode(name)) < 200 for name in unique)


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_unique_names_keep_names_as_list_grows(first: list[str], more: list[str]) -> None:
    assert list(unique_names(first + more))[: len(first)] == list(unique_names(first))
