"""The processors a process may use: affinity, and the quotas of control groups of both versions."""

import math
import os
from pathlib import Path

import pytest

from geomatch.runtime import processors
from geomatch.runtime.processors import available_processors, processor_quota, set_thread_defaults


def quota(place: Path, groups: str, files: dict[str, str]) -> float:
    (place / "groups").write_text(groups)
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(content)
    return processor_quota(place / "groups", place)


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/\n", {}, math.inf),
        ("0::/job/step\n", {"job/step/cpu.max": "max 100000", "job/cpu.max": "300000 100000"}, 3.0),
        ("0::/job\n", {"job/cpu.max": "400000 100000", "cpu.max": "200000 100000"}, 2.0),
        (
            "5:memory:/box\n4:cpu,cpuacct:/box\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
            0.5,
        ),
        (
            "4:cpu,cpuacct:/\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
            math.inf,
        ),
        ("0::/\nnonsense\n", {"cpu.max": "damaged"}, math.inf),
    ],
)
def test_quota_is_the_least_of_all_groups(tmp_path: Path, groups: str, files: dict[str, str], expected: float) -> None:
    assert quota(tmp_path, groups, files) == expected


def test_quota_without_control_groups(tmp_path: Path) -> None:
    assert processor_quota(tmp_path / "none", tmp_path) == math.inf


@pytest.mark.parametrize(("limit", "expected"), [(math.inf, 3), (1.2, 2), (0.1, 1), (64.0, 3)])
def test_processors_are_those_of_affinity_and_quota(
    monkeypatch: pytest.MonkeyPatch, limit: float, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    monkeypatch.setattr(processors, "processor_quota", lambda: limit)
    assert available_processors() == expected


def test_thread_defaults_leave_what_the_user_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "processor_quota", lambda: 1.0)
    own = {"OMP_WAIT_POLICY": "ACTIVE", "OMP_NUM_THREADS": "7", "OPENBLAS_NUM_THREADS": "3"}
    set_thread_defaults(environment := dict(own))
    assert environment == own


def test_thread_defaults_count_threads_only_under_a_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "processor_quota", lambda: 1.0)
    set_thread_defaults(limited := {})
    monkeypatch.setattr(processors, "processor_quota", lambda: math.inf)
    set_thread_defaults(free := {})
    assert limited == {"OMP_WAIT_POLICY": "PASSIVE", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    assert free == {"OMP_WAIT_POLICY": "PASSIVE", "OPENBLAS_NUM_THREADS": "1"}
