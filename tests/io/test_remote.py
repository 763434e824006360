"""Results below a URL: written whole, the record last; what cannot be written is said before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from geomatch.errors import InputError, MissingLibraryError
from geomatch.io.atomic import check_new_file, check_new_folder, write_atomically, write_folder_atomically
from geomatch.io.remote.objects import names_below, read_object, url_of


@pytest.fixture(autouse=True)
def _empty_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])


def test_url_of_keeps_paths_of_this_machine() -> None:
    assert url_of(Path("memory://out/a--b")) == "memory://out/a--b"
    assert [url_of(Path(name)) for name in ("out", "/s3:/a", "a/b:/c", "C:/d")] == [None] * 4


def test_write_folder_replaces_and_removes_objects() -> None:
    folder = Path("memory://out/a--b")
    write_folder_atomically(folder, {"flow.flo": b"old", "match.json": b"{}"})
    write_folder_atomically(folder, {"flow.npy": b"new", "match.json": b"[]"}, instead_of=["flow.flo", "gone"])
    assert names_below(folder) == {"flow.npy", "match.json"}
    assert read_object(folder / "flow.npy") == b"new"
    assert names_below(folder.parent) == {"a--b"}


def test_write_to_a_file_url_leaves_no_temporary_file(tmp_path: Path) -> None:
    write_atomically(Path(f"file://{tmp_path}/new/a.csv"), b"content")
    assert {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()} == {"a.csv": b"content"}


def test_check_new_outputs_respect_what_is_there() -> None:
    check_new_folder(Path("memory://out"), overwrite=False)
    assert names_below(Path("memory://out")) == set()
    write_atomically(Path("memory://out/a.csv"), b"")
    with pytest.raises(InputError, match="memory://out: exists already"):
        check_new_folder(Path("memory://out"), overwrite=False)
    with pytest.raises(InputError, match=r"memory://out/a\.csv: exists already"):
        check_new_file(Path("memory://out/a.csv"), overwrite=False)
    check_new_file(Path("memory://out/a.csv"), overwrite=True, suffixes=(".csv",))


def test_check_new_folder_refuses_what_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("no write access to the bucket")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse)
    with pytest.raises(InputError, match=r"memory://out/.*: cannot be read or written \(no write access to the bucket"):
        check_new_folder(Path("memory://out"), overwrite=True)
    with pytest.raises(InputError, match=r"unheard://out.*: cannot be read or written \(Protocol not known: unheard"):
        check_new_folder(Path("unheard://out"), overwrite=True)


def test_check_new_folder_names_what_a_store_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(MissingLibraryError, match=r"a URL needs fsspec: pip install 'geomatch\[remote\]'"):
        check_new_folder(Path("s3://bucket/out"), overwrite=True)
