"""Where the time goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter


@dataclass
class Timer:
    """Seconds spent in each named stage; a stage within another counts for itself only.

    on_stage: called with the name of every stage that begins.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    on_stage: Callable[[str], object] = lambda _: None
    _within: float = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.on_stage(name)
        began, outside, self._within = perf_counter(), self._within, 0.0
        try:
            yield
        finally:
            spent = perf_counter() - began
            self.seconds[name] = self.seconds.get(name, 0.0) + spent - self._within
            self._within = outside + spent

    def record(self) -> dict[str, float]:
        """The seconds, to a tenth of a millisecond."""
        return {name: round(seconds, 4) for name, seconds in self.seconds.items()}
