"""Measurements in a subprocess, whose peak memory is that of the measured work alone."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import Any


def measure_in_subprocess(measure: Callable[..., None], *arguments: object) -> Any:
    """The object that ``measure(*arguments, connection)`` sends through its connection, run in a new process."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=measure, args=(*arguments, send))
    child.start()
    send.close()
    result = receive.recv()
    child.join()
    return result


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Median processor seconds of a call."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return statistics.median(times)
