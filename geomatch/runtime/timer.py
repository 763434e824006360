"""The time that each stage of the work takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter


@dataclass
class Timer:
    """Seconds spent in each named stage, without the stages inside it.

    on_stage: called with the name of every stage that begins.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    on_stage: Callable[[str], object] = lambda _: None
    _inner: float = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.on_stage(name)
        began, outer, self._inner = perf_counter(), self._inner, 0.0
        try:
            yield
        finally:
            spent = perf_counter() - began
            self.seconds[name] = self.seconds.get(name, 0.0) + spent - self._inner
            self._inner = outer + spent

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add the seconds of stages that were measured elsewhere."""
        for name, spent in seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    def record(self) -> dict[str, float]:
        """The seconds of each stage, rounded to a tenth of a millisecond."""
        return {name: round(seconds, 4) for name, seconds in self.seconds.items()}
