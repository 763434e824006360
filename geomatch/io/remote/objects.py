"""Objects in a store that a URL names: s3://bucket/folder, gs://…, memory://…, whatever fsspec writes.

A command line takes a URL where it takes a path, and `Path` folds its slashes: ``Path("s3://a/b")`` is ``s3:/a/b``. So
a path that begins with a scheme of two letters or more is a URL here; write ``/full/path/s3:/…`` for a folder of that
name. An object appears whole or not at all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from geomatch.errors import GeomatchError, InputError, MissingLibraryError

_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.+)", re.DOTALL)
_ON_DISK = ("file", "local")


def url_of(path: Path) -> str | None:
    """The URL that a path stands for; None if it is one of this machine's files.

    >>> url_of(Path("s3://bucket/out")), url_of(Path("file:///tmp/out")), url_of(Path("out/a.flo"))
    ('s3://bucket/out', 'file:///tmp/out', None)
    """
    found = _URL.fullmatch(str(path))
    return f"{found[1]}://{'/' * (found[1] in _ON_DISK)}{found[2]}" if found else None


def shown(path: Path) -> str:
    """How records name a path: its URL, if it stands for one."""
    return url_of(path) or str(path)


def disk_folder(path: Path) -> Path | None:
    """A folder of this machine, as it is; None for a URL."""
    return None if url_of(path) else path


def write_object(path: Path, content: bytes) -> None:
    """Write an object, replacing one of that name. Raises InputError and MissingLibraryError."""
    with _store(path) as (store, name):
        if not {store.protocol, *store.protocol} & set(_ON_DISK):
            store.pipe_file(name, content)
            return
        temporary = f"{name}.{os.urandom(8).hex()}"  # a store puts an object whole, a disk does not
        store.makedirs(name.rpartition("/")[0], exist_ok=True)
        store.pipe_file(temporary, content)
        store.mv(temporary, name)


def read_object(path: Path) -> bytes | None:
    """The content of an object; None if there is none. Raises InputError if the store cannot be read."""
    with _store(path) as (store, name), suppress(FileNotFoundError, IsADirectoryError):
        return bytes(store.cat_file(name))
    return None


def remove_object(path: Path) -> None:
    """Remove an object, if it is there. Raises InputError."""
    with _store(path) as (store, name), suppress(FileNotFoundError):
        store.rm_file(name)


def names_below(path: Path) -> set[str]:
    """The names of objects and folders directly below a URL. Raises InputError."""
    with _store(path) as (store, name), suppress(FileNotFoundError):
        return {entry.rstrip("/").rpartition("/")[2] for entry in store.ls(name, detail=False)}
    return set()


def check_store(path: Path) -> None:
    """Raise InputError, before any work, unless objects can be written below a URL: one is, and removed again."""
    probe = path / f".geomatch-{os.urandom(8).hex()}"
    write_object(probe, b"")
    remove_object(probe)


@contextmanager
def _store(path: Path) -> Iterator[tuple[Any, str]]:
    """The store that a URL names, and the name of the object in it."""
    url = url_of(path)
    try:
        fsspec = import_module("fsspec")
    except ImportError as error:
        raise MissingLibraryError(f"{url}: a URL needs fsspec: pip install 'geomatch[remote]'") from error
    try:
        yield fsspec.core.url_to_fs(url)
    except GeomatchError:
        raise
    except ImportError as error:
        raise MissingLibraryError(f"{url}: {str(error) or 'its store needs another package'}") from error
    except Exception as error:  # each store raises its own
        raise InputError(f"{url}: cannot be read or written ({str(error) or type(error).__name__})") from error
