"""Chunks handed to processes, which may be lost on the way; results in the order of the list."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from geomatch.errors import GeomatchWarning
from geomatch.runtime.engines.chunks import Chunk
from geomatch.runtime.engines.engine import Job
from geomatch.runtime.engines.worker import Answer
from geomatch.runtime.parallel_map import Finished

MOST_LOSSES = 3
"""Processes that may be lost over one item alone before it fails."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Lost:
    """A process has ended before its chunk was finished; why."""

    reason: str


@dataclass(frozen=True)
class Outcome:
    """What became of a chunk, on which machine; without a chunk, of the start of a process there."""

    chunk: Chunk | None
    node: str
    answer: Answer | Lost


class Pool(Protocol):
    """Processes that work on one chunk each at a time. A lost one is replaced."""

    @property
    def idle(self) -> bool:
        """Whether a process waits for a chunk."""

    @property
    def busy(self) -> bool:
        """Whether a process works on a chunk."""

    def give(self, chunk: Chunk) -> None:
        """Let an idle process begin a chunk."""

    def wait(self) -> Outcome | None:
        """Wait for an outcome; None: the pool has changed otherwise. Raises GeomatchError."""


class Schedule(Generic[Item]):
    """Has the chunks of a list done by a pool.

    Each result is reported once, whatever happens: the chunk of a lost process is done again by others, in halves, and
    so are items that ran out of memory beside others. An item that loses `MOST_LOSSES` processes alone fails.
    """

    def __init__(self, pool: Pool, job: Job[Item], items: Sequence[Item], chunks: Iterator[Chunk]) -> None:
        self._pool, self._job, self._items, self._chunks = pool, job, items, chunks
        self._again: deque[Chunk] = deque()
        self._done: dict[int, Finished] = {}
        self._noted: set[str] = set()

    def run(self) -> Iterator[Finished]:
        """The results in the order of the list. Raises GeomatchError if the job cannot be done at all."""
        reported = 0
        while reported < len(self._items):
            while self._pool.idle and (chunk := self._next()):
                self._pool.give(chunk)
            outcome = self._pool.wait()
            if outcome is not None:
                self._take(outcome)
            while reported in self._done:
                yield self._done.pop(reported)
                reported += 1

    def _next(self) -> Chunk | None:
        return self._again.popleft() if self._again else next(self._chunks, None)

    def _take(self, outcome: Outcome) -> None:
        chunk, answer = outcome.chunk, outcome.answer
        if isinstance(answer, Lost):
            assert chunk, "what is lost before it has a chunk is the pool's matter"
            self._repeat(chunk, f"node {outcome.node}: lost a process ({answer.reason})")
            return
        if answer.error:
            raise answer.error
        for note in dict.fromkeys(answer.notes):
            if note not in self._noted:  # every process may give it
                self._noted.add(note)
                _warn(note)
        pairs = list(zip(chunk.places if chunk else (), answer.finished, strict=True))
        self._done |= {place: finished for place, finished in pairs if finished is not None}
        if short := [place for place, finished in pairs if finished is None]:
            self._repeat(Chunk(short), f"node {outcome.node}: out of memory")

    def _repeat(self, chunk: Chunk, why: str) -> None:
        count = len(chunk.places)
        halves = chunk.halves()
        if halves[0].losses >= MOST_LOSSES:
            place = chunk.places[0]
            message = f"{MOST_LOSSES} processes were lost over it, the last: {why}"
            self._done[place] = self._job.failure(self._items[place], message)
            return
        how = "done again" if count == 1 else "done again in halves"
        _warn(f"{why}; its {count} unfinished item{'s are' if count > 1 else ' is'} {how}")
        self._again.extendleft(reversed(halves))


def _warn(text: str) -> None:
    warnings.warn(text, GeomatchWarning, stacklevel=2)
