"""Stopping between two steps, never within one, on Ctrl-C and on the SIGTERM of schedulers and of ``torchrun``."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Inside this context both signals raise KeyboardInterrupt; inside `held` they wait until it ends.

    It does nothing outside the main thread, where Python delivers no signals.
    """

    def __init__(self) -> None:
        self._holding = self._pending = False

    def __enter__(self) -> Interrupts:
        main = threading.current_thread() is threading.main_thread()
        signals = (signal.SIGINT, signal.SIGTERM) if main else ()
        self._before = {number: signal.signal(number, self._on_signal) for number in signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """What runs inside is not interrupted."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if not self._holding:
            raise KeyboardInterrupt
        self._pending = True
