"""What the benchmarks share that measure each thing in a process of its own, whose memory nothing else has touched."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import Any


def in_own_process(measure: Callable[..., None], *arguments: object) -> Any:
    """What ``measure``, given the arguments and a connection, sends through it."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=measure, args=(*arguments, send))
    child.start()
    send.close()
    result = receive.recv()
    child.join()
    return result


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Of processor time."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return statistics.median(times)
