"""Calls of several threads, computed together."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

from geomatch.errors import GeomatchWarning, OutOfMemoryError

Item = TypeVar("Item")
Value = TypeVar("Value")
_Call = tuple[Item, "Future[Value]"]


class Gathered(Generic[Item, Value]):
    """A function of several items as one of a single item, which threads call.

    While one thread computes, the items of the others gather; the next thread computes up to ``most`` of them at once.
    One thread computes at any moment. If a call fails, its items are computed again in halves, so that an exception is
    raised for the item alone that causes it. Where memory runs out, ``most`` is halved for good, and a GeomatchWarning
    says so.

    compute: the values of items, in their order. lock: held while it computes; others may hold it, too.
    """

    def __init__(self, compute: Callable[[Sequence[Item]], Sequence[Value]], most: int) -> None:
        self.most, self.lock = most, Lock()
        self._compute = compute
        self._waiting: deque[_Call[Item, Value]] = deque()

    def __call__(self, item: Item) -> Value:
        """The value of an item. Raises what ``compute`` raises for it."""
        mine: Future[Value] = Future()
        self._waiting.append((item, mine))
        with self.lock:
            while not mine.done():
                self._settle([self._waiting.popleft() for _ in range(min(self.most, len(self._waiting)))])
        return mine.result()

    def _settle(self, calls: Sequence[_Call[Item, Value]]) -> None:
        try:
            values = self._compute([item for item, _ in calls])
        except BaseException as error:
            if len(calls) == 1 or not isinstance(error, Exception):
                for _, future in calls:
                    future.set_exception(error)
                return
            out_of_memory = isinstance(error, OutOfMemoryError)
        else:
            for (_, future), value in zip(calls, values, strict=True):
                future.set_result(value)
            return
        # Only here is the exception gone, and with it the memory that its frames held.
        half = len(calls) // 2
        if out_of_memory and half < self.most:
            self.most = half
            warnings.warn(f"out of memory: no more than {half} images are extracted together", GeomatchWarning, 2)
        self._settle(calls[:half])
        self._settle(calls[half:])
