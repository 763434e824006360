"""Output that appears whole or not at all: it is written under a temporary name, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from geomatch.errors import InputError

_PREFIX = ".geomatch-"
_NAMED = 180  # characters of a name that a temporary name repeats, which must not become too long


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, replacing a file there. Raises InputError if it cannot be written."""
    with _temporary_folder(path) as folder, _named(path):
        temporary = folder / path.name
        temporary.write_bytes(content)
        os.replace(temporary, path)


def write_folder_atomically(folder: Path, files: Mapping[str, bytes], *, instead_of: Collection[str] = ()) -> None:
    """Make ``folder`` with all of ``files`` (content by name), or change nothing if that fails.

    If the folder exists, the files replace those of the same name, and those named ``instead_of`` are deleted, once all
    are on the disk. They appear in the order given. Raises InputError if it cannot be written.
    """
    with _temporary_folder(folder) as temporary, _named(folder):
        # mkdir applies the umask; a process can read its own only by setting it.
        whole = temporary / folder.name
        whole.mkdir()
        for name, content in files.items():
            (whole / name).write_bytes(content)
        if folder.exists():
            for name in instead_of:
                (folder / name).unlink(missing_ok=True)
            for name in files:
                os.replace(whole / name, folder / name)
        else:
            whole.rename(folder)


def clear_unfinished(folder: Path, is_output: Callable[[str], bool]) -> None:
    """Remove unfinished output in ``folder``, left by killed processes, whose final name ``is_output`` accepts."""
    for entry in folder.glob(f"{_PREFIX}*-*"):
        if is_output(entry.name.removeprefix(_PREFIX).rpartition("-")[0]):
            shutil.rmtree(entry, ignore_errors=True)


def check_new_folder(folder: Path, *, overwrite: bool) -> None:
    """Raise InputError, before any work, if ``folder`` cannot take a result."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; give a folder with -o")
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise InputError(f"{folder}: exists already; give another folder with -o, or --overwrite")
    _check_can_write(folder if folder.exists() else folder.parent)


def check_writable(path: Path) -> None:
    """Raise InputError, before any work, if the file ``path`` cannot be written."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give the name of a file")
    _check_can_write(path.parent)


def check_new_file(path: Path, *, overwrite: bool) -> None:
    """Raise InputError, before any work, if the file ``path`` exists or cannot be written."""
    check_writable(path)
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already; give another file with -o, or --overwrite")


def _check_can_write(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; make it first")
    with _temporary_folder(folder / "trial"):
        pass


@contextmanager
def _temporary_folder(beside: Path) -> Iterator[Path]:
    """A folder that is deleted afterwards. Making it is the only sure test of permissions."""
    try:
        folder = Path(tempfile.mkdtemp(dir=beside.parent, prefix=f"{_PREFIX}{beside.name[:_NAMED]}-"))
    except OSError as error:
        raise InputError(f"{beside.parent}: cannot be written to ({error.strerror})") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: could not be written ({error.strerror})") from error
