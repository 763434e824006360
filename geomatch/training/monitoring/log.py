"""The log of a training: a line of JSON for each step and each validation.

A line holds ``step`` and either the step's report (``loss``, the task's own numbers, ``seconds``, names of photographs
found ``unreadable``) or the score of a ``validation``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geomatch.errors import InputError
from geomatch.io.atomic import write_atomically
from geomatch.io.inputs import read_input

LARGEST = 1e100
"""Larger values, as of a training that diverges, are NaN in a curve."""
MOST_STEPS = 1 << 53


@dataclass(frozen=True)
class TrainingLog:
    """A log that was read.

    curves: steps and values of every number, in the order of the log; values that are not finite are NaN.
    unreadable: names of photographs that could not be used.
    """

    curves: Mapping[str, tuple[Sequence[int], Sequence[float]]]
    unreadable: Sequence[str]


def keep_before(log: Path, step: int) -> None:
    """Drop the lines of ``step`` and later ones; create the log if there is none. Raises InputError."""
    lines = log.read_bytes().splitlines(keepends=True) if step and log.is_file() else []
    kept = [line for line in lines if (entry := _parse(line)) and entry["step"] < step]
    write_atomically(log, b"".join(kept))


def append(log: Path, line: Mapping[str, object]) -> None:
    """Add a line to a log. Raises InputError if it cannot be written."""
    try:
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise InputError(f"{log}: could not be written ({error.strerror})") from error


def read_log(path: Path) -> TrainingLog:
    """Read a log; an incomplete last line is left out. Raises InputError if there is none, or no step in it."""
    file = read_input(path)
    lines = file.content.splitlines(keepends=True)
    entries = [_parse(line) for line in lines]
    if lines and entries[-1] is None and lines[-1].startswith(b"{") and not lines[-1].endswith(b"\n"):
        entries.pop()
    if None in entries:
        raise InputError(f"{file}: not the log of a training: line {entries.index(None) + 1} is not a step of one")
    if not entries:
        raise InputError(f"{file}: no step in this log yet")
    return _as_curves([entry for entry in entries if entry is not None])


def _parse(line: bytes) -> dict[str, Any] | None:
    """A line's numbers and names; None if it is not a complete line of a log."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = entry.get("step") if isinstance(entry, dict) else None
    return entry if isinstance(step, int) and 0 <= step <= MOST_STEPS else None


def _as_curves(entries: Sequence[Mapping[str, Any]]) -> TrainingLog:
    curves: dict[str, tuple[list[int], list[float]]] = {}
    unreadable: dict[str, None] = {}
    for entry in entries:
        for name, value in entry.items():
            if name == "unreadable" and isinstance(value, list):
                unreadable |= dict.fromkeys(map(str, value))
            elif name != "step" and isinstance(value, int | float):
                steps, values = curves.setdefault(name, ([], []))
                steps.append(entry["step"])
                values.append(float(value) if abs(value) <= LARGEST else math.nan)
    return TrainingLog(curves, tuple(unreadable))
