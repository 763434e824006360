"""A cache for a known schedule, such as the features of images in a list of pairs, within a bound on memory."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, Protocol, TypeVar

MAX_BYTES = 1 << 30


class Sized(Protocol):
    """A value that knows how much memory it takes."""

    @property
    def nbytes(self) -> int: ...


Key = TypeVar("Key")  # hashable
Value = TypeVar("Value", bound=Sized)


class FeatureCache(Generic[Key, Value]):
    """Computes values, such as features, by key and keeps them as long as the schedule needs them.

    A value that the schedule does not need again is dropped at once. If the others exceed ``max_bytes``, the one that
    is needed last is dropped first: this choice needs the fewest computations (Belady, 1966).

    Threads may share a cache, and need to follow its schedule only approximately. If two threads need one value, the
    first computes it and the second waits. An exception of ``compute`` is raised wherever its key is asked for.

    schedule: the keys in the order in which they will be asked for, each as often as it will be.
    """

    def __init__(self, compute: Callable[[Key], Value], schedule: Iterable[Key], max_bytes: int = MAX_BYTES) -> None:
        self.compute, self.max_bytes = compute, max_bytes
        self.computed = 0
        self._uses: defaultdict[Key, deque[int]] = defaultdict(deque)
        for moment, key in enumerate(schedule):
            self._uses[key].append(moment)
        self._kept: dict[Key, Future[Value]] = {}
        self._lock = Lock()

    def __call__(self, key: Key) -> Value:
        """The value of the key that comes next in the schedule."""
        try:
            return self.get(key)
        finally:
            self.release(key)

    def get(self, key: Key) -> Value:
        """The value of a key, which is kept until it is released."""
        with self._lock:
            value = self._kept.get(key)
            if missing := value is None:
                value = self._kept[key] = Future()
                self.computed += 1
        assert value is not None, "it was found or made"
        if missing:
            try:
                value.set_result(self.compute(key))
            except BaseException as error:
                value.set_exception(error)
        return value.result()

    def release(self, key: Key) -> None:
        """Mark the key's next use in the schedule as done, whether its value was used or not."""
        with self._lock:
            self._uses[key].popleft()
            if not self._uses[key]:
                self._kept.pop(key, None)
            sizes = {key: size for key, kept in self._kept.items() if (size := _bytes(kept))}
            while sum(sizes.values()) > self.max_bytes:
                last = max(sizes, key=self._next_use)
                del sizes[last], self._kept[last]

    def _next_use(self, key: Key) -> float:
        return self._uses[key][0] if self._uses[key] else math.inf


def _bytes(value: Future[Value]) -> int:
    finished = value.done() and value.exception() is None
    return value.result().nbytes if finished else 0
