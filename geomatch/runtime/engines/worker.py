"""What a process of a cluster does: it makes a job's pipeline once, and works on one chunk after the other.

Imports nothing heavy, since it sets how the threads of torch behave before torch is loaded.
"""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomatch import __version__
from geomatch.errors import GeomatchError, GeomatchWarning, InputError, OutOfMemoryError
from geomatch.runtime.processors import set_thread_defaults

if TYPE_CHECKING:
    from geomatch.runtime.parallel_map import Finished


@dataclass(frozen=True)
class Surroundings:
    """What a process must find where it runs.

    folder: the working folder, which relative names of files start from. files: some that it must see.
    """

    folder: Path
    files: Sequence[Path]
    version: str = __version__

    def enter(self, node: str) -> None:
        """Work there. Raises InputError if the machine, ``node``, has not what is needed."""
        if self.version != __version__:
            raise InputError(f"node {node}: has geomatch {__version__}, not {self.version}: install the same")
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise InputError(
                f"node {node}: does not see the working folder {self.folder} ({error.strerror}); work in a folder that "
                "all nodes mount under the same name"
            ) from error
        for file in self.files:
            if not file.exists():
                raise InputError(
                    f"node {node}: does not see {file}, which is here; put images and results on a disk that all nodes "
                    "mount under the same name"
                )


@dataclass(frozen=True)
class Answer:
    """What became of a chunk.

    finished: the reports on its items, in order; None for one that ran out of memory. notes: warnings for the user.
    error: what stopped the whole job.
    """

    finished: Sequence[Finished | None] = ()
    notes: Sequence[str] = ()
    error: GeomatchError | None = None


class Worker:
    """Works on chunks of a job, which is pickled, so that nothing is imported before the threads are set."""

    def __init__(self, node: str, surroundings: Surroundings, job: bytes) -> None:
        self.node, self._surroundings, self._pickled = node, surroundings, job
        self._job: Any = None

    def start(self) -> Answer:
        """Find the surroundings, and make all that the job makes once a process."""

        def start() -> Sequence[Finished]:
            self._surroundings.enter(self.node)
            set_thread_defaults()
            self._job = pickle.loads(self._pickled)
            self._job.start()
            return ()

        return _answer(start)

    def work(self, items: Sequence[object]) -> Answer:
        """Do a chunk."""
        return _answer(lambda: [_portable(each, alone=len(items) == 1) for each in self._job(items)])


def _answer(work: Callable[[], Sequence[Finished | None]]) -> Answer:
    """What comes of work, with the warnings that it gave."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", GeomatchWarning)
        try:
            answer = Answer(work())
        except GeomatchError as error:
            answer = Answer(error=error)
    notes = tuple(str(each.message) for each in caught if issubclass(each.category, GeomatchWarning))
    return replace(answer, notes=notes)


def _portable(finished: Finished, *, alone: bool) -> Finished | None:
    """A report without its exception, which need not be picklable; None if others in memory may have been the cause."""
    if isinstance(finished.error, OutOfMemoryError) and not alone:
        return None
    return replace(finished, error=None)
