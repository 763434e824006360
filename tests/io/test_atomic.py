import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from geomatch.errors import InputError
from geomatch.io.atomic import check_new_file, check_new_folder, write_atomically, write_folder_atomically


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_write_atomically_replaces_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert names_in(tmp_path) == ["a"]


def test_write_folder_makes_all_files(tmp_path: Path) -> None:
    write_folder_atomically(tmp_path / "out", {"a": b"1", "b": b"2"})
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == {"a": b"1", "b": b"2"}
    assert names_in(tmp_path) == ["out"]


def test_write_folder_changes_nothing_if_it_fails(tmp_path: Path) -> None:
    write_folder_atomically(tmp_path / "out", {"a": b"old"})
    with pytest.raises(InputError):
        write_folder_atomically(tmp_path / "out", {"a": b"new", "no/such/folder": b""})
    assert (tmp_path / "out" / "a").read_bytes() == b"old"
    with pytest.raises(InputError):
        write_folder_atomically(tmp_path / "other", {"a": b"new", "no/such/folder": b""})
    assert names_in(tmp_path) == ["out"]


def test_write_folder_keeps_other_files(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"kept")
    write_folder_atomically(tmp_path, {"a": b"1"})
    assert (tmp_path / "mine").read_bytes() == b"kept"


def test_check_new_folder_refuses_a_full_folder(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(InputError, match="--overwrite"):
        check_new_folder(tmp_path, overwrite=False)
    check_new_folder(tmp_path, overwrite=True)
    with pytest.raises(InputError, match="is a file"):
        check_new_folder(tmp_path / "a", overwrite=True)


def test_check_new_file_refuses_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        check_new_file(tmp_path, overwrite=True)


def test_write_folder_keeps_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders written from many threads have the mode of any new folder, and nobody sets the process's umask."""

    def refuse(mask: int) -> int:
        raise AssertionError(f"umask({mask}) is called")

    before = os.umask(0o27)
    try:
        monkeypatch.setattr(os, "umask", refuse)
        folders = [tmp_path / str(number) for number in range(50)]
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda folder: write_folder_atomically(folder, {"a": b"1"}), folders))
        assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o750}
        assert {(folder / "a").stat().st_mode & 0o777 for folder in folders} == {0o640}
    finally:
        monkeypatch.undo()
        os.umask(before)
