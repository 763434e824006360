import os
import unicodedata
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from geomatch.io.names import find_below, unique_names


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


def test_find_below_takes_either_spelling_slash_and_folder(tmp_path: Path) -> None:
    nfc, nfd = (unicodedata.normalize(form, "th\u00e9i\u00e8re") for form in ("NFC", "NFD"))
    file = tmp_path / nfd / f"{nfd}.jpg"
    file.parent.mkdir()
    file.touch()
    for written in (f"{nfc}/{nfc}.jpg", f"./{nfd}\\{nfc}.jpg", f"{nfc}//{nfd}.jpg"):
        assert find_below(tmp_path, written).samefile(file)
    assert find_below(tmp_path, f"{nfc}/none.jpg") == file.parent / "none.jpg"
    assert find_below(tmp_path, "no/such.jpg") == tmp_path / "no" / "such.jpg"
