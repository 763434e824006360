"""Many items side by side: some are read and written while one is described and one is matched."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, TypeVar

from torch import Tensor

from geomatch.correspondence import Correspondence, FeatureMap
from geomatch.errors import GeomatchError
from geomatch.pipeline import Pipeline

MOST_WORKERS = 8

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Finished:
    """An item that is done with. record: what is told of it; if it failed, which it was, and why: `error`. kept:
    whether its result was there already."""

    record: dict[str, Any]
    kept: bool = False

    @property
    def failed(self) -> bool:
        return "error" in self.record


@dataclass(frozen=True)
class SharedPipeline(Pipeline):
    """A pipeline for several threads: it describes one image and matches one pair at a time, since each uses all the
    cores and as much memory as it was given."""

    _describing: Lock = field(default_factory=Lock, repr=False, compare=False)
    _matching: Lock = field(default_factory=Lock, repr=False, compare=False)

    @classmethod
    def of(cls, pipeline: Pipeline) -> SharedPipeline:
        return cls(pipeline.extractor, pipeline.matcher, pipeline.device)

    def describe(self, image: Tensor) -> FeatureMap:
        with self._describing:
            return super().describe(image)

    def match(self, source: FeatureMap, target: FeatureMap) -> Correspondence:
        with self._matching:
            return super().match(source, target)


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
