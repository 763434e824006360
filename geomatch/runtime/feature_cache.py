"""Features of the images of a known sequence of pairs: each computed once, within a bound on memory."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, Protocol, TypeVar

MAX_BYTES = 1 << 30


class Described(Protocol):
    """What is kept of an image, and the memory it takes."""

    @property
    def nbytes(self) -> int: ...


Image = TypeVar("Image")  # hashable
Description = TypeVar("Description", bound=Described)


class FeatureCache(Generic[Image, Description]):
    """Descriptions by image. What is asked for, and when, is known beforehand.

    So what is never asked for again goes at once; if the rest exceeds ``max_bytes``, first goes what is needed latest,
    the choice that needs the fewest computations (Belady, 1966).

    May be used from several threads, which then keep to the schedule as nearly as they can: an image that two of them
    want is computed by one while the other waits. What ``describe`` raises is raised wherever that image is asked for.
    """

    def __init__(
        self, describe: Callable[[Image], Description], schedule: Iterable[Image], max_bytes: int = MAX_BYTES
    ) -> None:
        self.describe, self.max_bytes = describe, max_bytes
        self.computed = 0
        self._uses: defaultdict[Image, deque[int]] = defaultdict(deque)
        for moment, image in enumerate(schedule):
            self._uses[image].append(moment)
        self._kept: dict[Image, Future[Description]] = {}
        self._lock = Lock()

    def __call__(self, image: Image) -> Description:
        """The description for the next moment of the schedule, at which ``image`` stands."""
        try:
            return self.get(image)
        finally:
            self.release(image)

    def get(self, image: Image) -> Description:
        """The description of an image, which stays until it is released."""
        with self._lock:
            description = self._kept.get(image)
            if wanted := description is None:
                description = self._kept[image] = Future()
                self.computed += 1
        assert description is not None, "it was found or made"
        if wanted:
            try:
                description.set_result(self.describe(image))
            except BaseException as error:
                description.set_exception(error)
        return description.result()

    def release(self, image: Image) -> None:
        """Say that the next moment of the schedule at which ``image`` stands is over, whether it was used or not."""
        with self._lock:
            self._uses[image].popleft()
            if not self._uses[image]:
                self._kept.pop(image, None)
            taken = {image: size for image, kept in self._kept.items() if (size := _bytes(kept))}
            while sum(taken.values()) > self.max_bytes:
                latest = max(taken, key=self._next_use)
                del taken[latest], self._kept[latest]

    def _next_use(self, image: Image) -> float:
        return self._uses[image][0] if self._uses[image] else math.inf


def _bytes(description: Future[Description]) -> int:
    finished = description.done() and description.exception() is None
    return description.result().nbytes if finished else 0
