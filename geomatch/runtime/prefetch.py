"""Values computed in background threads before a training step asks for them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

Value = TypeVar("Value")


class Prefetch(Generic[Value]):
    """A function of batch numbers that computes the next values while the current one is used.

    compute: makes the value of a number. It must depend on the number alone and be thread-safe; its exception is raised
    when that number is asked for. stride: from one number to the next; other numbers are computed on demand. depth: how
    many values are computed ahead.

    As a context manager it stops its threads on leaving, also after an exception, and drops values not asked for.
    """

    def __init__(self, compute: Callable[[int], Value], *, stride: int = 1, depth: int = 4, threads: int = 4) -> None:
        self._compute, self._stride, self._depth = compute, stride, depth
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="prefetch")
        self._pending: dict[int, Future[Value]] = {}

    def __call__(self, number: int) -> Value:
        """The value of a number; starts to compute those that follow."""
        wanted = range(number, number + (self._depth + 1) * self._stride, self._stride)
        for unwanted in self._pending.keys() - set(wanted):
            self._pending.pop(unwanted).cancel()
        for upcoming in wanted:
            if upcoming not in self._pending:
                self._pending[upcoming] = self._threads.submit(self._compute, upcoming)
        return self._pending.pop(number).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)
