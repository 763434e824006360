"""Many items side by side: some are read and written while one is described and one is matched."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from geomatch.errors import GeomatchError

MOST_WORKERS = 8

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Finished:
    """An item that is done with.

    record: what is reported of it; if it failed, which item it was, and why, under "error". kept: whether its result
    was there already. error: the exception, if it failed.
    """

    record: dict[str, Any]
    kept: bool = False
    error: Exception | None = None

    @property
    def failed(self) -> bool:
        return "error" in self.record


def why(error: Exception) -> str:
    """What to tell of an item that failed: a fault of ours must not cost the user the others."""
    return str(error) if isinstance(error, GeomatchError) else f"unexpected {type(error).__name__}: {error}"


def in_order(work: Callable[[Item], Value], items: Iterable[Item]) -> Iterator[Value]:
    """What ``work`` makes of each item, in their order, by threads that are at most a few items ahead of the reader."""
    workers = min((os.cpu_count() or 1) + 2, MOST_WORKERS)
    pending: deque[Future[Value]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="batch") as threads:
        try:
            for item in items:
                pending.append(threads.submit(work, item))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            threads.shutdown(cancel_futures=True)
