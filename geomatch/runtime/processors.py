"""The processors that this process may use, and how the threads of torch behave beside other work.

Imports nothing heavy: what OpenMP reads must be set before torch is loaded.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

_GROUPS, _MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def available_processors() -> int:
    """How many processors this process can keep busy: those it may run on, at most the quota of its control groups."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, _rounded_up(processor_quota())))


def processor_quota(groups: Path = _GROUPS, mount: Path = _MOUNT) -> float:
    """The processors' worth of time that Linux control groups leave to this process, infinite without a limit.

    groups: the file that lists the groups of the process. mount: the folder of all groups.
    """
    try:
        entries = [line.split(":", 2) for line in groups.read_text().splitlines()]
    except OSError:
        return math.inf
    found = [math.inf]
    for _, controllers, path in (entry for entry in entries if len(entry) == 3):
        if not controllers:  # version 2
            found += _quotas(mount, path)
        elif "cpu" in controllers.split(","):
            found += _quotas(mount / controllers, path)
    return min(found)


def set_thread_defaults(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set what OpenMP and OpenBLAS read when torch, numpy and scipy are loaded, unless the user has.

    Threads that wait for others sleep: by default they spin, and beside other work they then take the processors that
    the others need (docs/results.md#busy-machines). There are as many threads as a quota leaves processors; OpenMP
    itself knows only those that the process may run on.

    OpenBLAS, which only numpy and scipy use, gets one thread: its threads spin over the small systems of smooth flows,
    of which a batch solves several at once.
    """
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    environment.setdefault("OPENBLAS_NUM_THREADS", "1")
    if processor_quota() < math.inf:
        environment.setdefault("OMP_NUM_THREADS", str(available_processors()))


def _quotas(mount: Path, path: str) -> Iterator[float]:
    """The quotas of a group and of those that it is in; in a container only some of them can be seen."""
    group = PurePosixPath(path.lstrip("/"))
    for each in (group, *group.parents):
        with suppress(OSError, ValueError, ZeroDivisionError):
            if (file := mount / each / "cpu.max").exists():
                quota, period = file.read_text().split()
            else:
                quota, period = ((mount / each / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if quota != "max" and float(quota) > 0:
                yield float(quota) / float(period)


def _rounded_up(quota: float) -> int:
    return math.ceil(quota) if quota < math.inf else 1 << 16
