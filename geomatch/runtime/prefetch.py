"""Work done in background threads before the training step that needs it asks for it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

Value = TypeVar("Value")


class Prefetch(Generic[Value]):
    """A function of batch numbers whose next values are computed while the present one is being used.

    compute: must depend on its number alone and bear being called from several threads; then so does what is returned
    here: the threads' timing decides when a value is there, never which it is. What it raises is raised where
    that number is asked for. stride: how far apart the numbers are that will be asked for; others are computed on
    demand. depth: how many values are kept ready.

    As a context manager it ends its threads on leaving, whatever the reason, and drops what nobody asked for.
    """

    def __init__(self, compute: Callable[[int], Value], *, stride: int = 1, depth: int = 4, threads: int = 4) -> None:
        self._compute, self._stride, self._depth = compute, stride, depth
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
        self._pending: dict[int, Future[Value]] = {}

    def __call__(self, number: int) -> Value:
        """The value of ``number``."""
        wanted = range(number, number + (self._depth + 1) * self._stride, self._stride)
        for passed in self._pending.keys() - set(wanted):
            self._pending.pop(passed).cancel()
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
