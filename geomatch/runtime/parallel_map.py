"""Many items in parallel: some are read and written while one is extracted and one is matched."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from geomatch.errors import GeomatchError
from geomatch.runtime.processors import available_processors

MOST_WORKERS = 8

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Finished:
    """The outcome of an item.

    record: the report on it; if it failed, the item's name and a message under "error". reused: whether an earlier run
    had made the result. error: the exception, if it failed.
    """

    record: dict[str, Any]
    reused: bool = False
    error: Exception | None = None

    @property
    def failed(self) -> bool:
        return "error" in self.record


def error_message(error: Exception) -> str:
    """The message for an item that failed. A bug in geomatch fails its item alone, and is named as unexpected."""
    return str(error) if isinstance(error, GeomatchError) else f"unexpected {type(error).__name__}: {error}"


def map_in_order(work: Callable[[Item], Value], items: Iterable[Item]) -> Iterator[Value]:
    """Yield ``work(item)`` in the order of the items; threads work at most a few items ahead of the reader."""
    workers = min(available_processors() + 2, MOST_WORKERS)
    pending: deque[Future[Value]] = deque()
    import torch  # here, since processes that only divide work do without

    as_here = torch.set_num_threads, (torch.get_num_threads(),)
    with ThreadPoolExecutor(workers, "batch", *as_here) as threads:
        try:
            for item in items:
                pending.append(threads.submit(work, item))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            threads.shutdown(cancel_futures=True)
