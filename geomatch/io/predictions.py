"""Predictions stored from run to run: arrays in one SQLite file, which survives being stopped at any moment."""

from __future__ import annotations

import os
import sqlite3
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from geomatch.errors import GeomatchWarning, InputError

Arrays = Mapping[str, NDArray[np.float64]]


def cache_folder() -> Path | None:
    """The folder of geomatch's caches: ``$XDG_CACHE_HOME/geomatch``, by default ``~/.cache/geomatch``.

    None, with a GeomatchWarning, for a user without a home, as in a container.
    """
    given = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(given or Path.home() / ".cache") / "geomatch"
    except RuntimeError:
        warnings.warn(
            "there is no home folder to cache predictions in; set HOME or XDG_CACHE_HOME to resume a stopped run",
            GeomatchWarning,
            stacklevel=2,
        )
        return None


class PredictionStore:
    """Named arrays by key. They are on the disk, whole, when ``put`` returns.

    Every call raises InputError if the file is damaged or its folder cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._using():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute("CREATE TABLE IF NOT EXISTS predictions (key TEXT PRIMARY KEY, arrays BLOB)")

    @staticmethod
    def delete(path: Path) -> None:
        """Delete the file, if there is one. Raises InputError."""
        try:
            for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
                file.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"{path}: kept predictions cannot be deleted ({error.strerror})") from error

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._database.close()

    def keys(self) -> set[str]:
        with self._using():
            return {key for (key,) in self._database.execute("SELECT key FROM predictions")}

    def get(self, key: str) -> dict[str, NDArray[np.float64]] | None:
        """The arrays of ``key``, or None if there are none."""
        with self._using():
            row = self._database.execute("SELECT arrays FROM predictions WHERE key = ?", (key,)).fetchone()
            return None if row is None else load(row[0])

    def put(self, key: str, arrays: Arrays) -> None:
        """Store the arrays of ``key``, replacing those there."""
        content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
        with self._using():
            self._database.execute("INSERT OR REPLACE INTO predictions VALUES (?, ?)", (key, content))

    @contextmanager
    def _using(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error, SafetensorError) as error:
            raise InputError(
                f"{self.path}: kept predictions cannot be used ({error}); "
                "delete it, run with --fresh, or set XDG_CACHE_HOME to another folder"
            ) from error
