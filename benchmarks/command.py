"""Time of `geomatch --help`, and time and peak memory of `geomatch match`, as whole processes.

    python benchmarks/command.py

Times are medians, beside that of an empty Python process in the same run. A peak is at least that of this benchmark
itself, since a process starts from it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

TEAPOTS = Path(__file__).parent.parent / "examples" / "teapots"


def whole_process(command: Sequence[str], runs: int) -> tuple[float, float]:
    """Median seconds and largest peak memory (MiB) of a command."""
    seconds, peaks = [], []
    for _ in range(runs):
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds.append(time.perf_counter() - began)
        peaks.append(usage.ru_maxrss / 1024)
        if os.waitstatus_to_exitcode(status) != 0:
            raise SystemExit(f"failed: {' '.join(command)}")
    return statistics.median(seconds), max(peaks)


def main() -> None:
    geomatch = [sys.executable, "-m", "geomatch"]
    empty, _ = whole_process([sys.executable, "-c", "pass"], 9)
    table = Table(title="whole processes")
    for column in ("command", "seconds", "times an empty Python", "peak MiB"):
        table.add_column(column, justify="left" if column == "command" else "right")
    with tempfile.TemporaryDirectory() as folder:
        large = []
        for name in ("a", "b"):
            path = Path(folder) / f"{name}.jpg"
            Image.open(TEAPOTS / f"{name}.png").resize((4000, 3000), Image.Resampling.BICUBIC).save(path, quality=90)
            large.append(str(path))
        out = str(Path(folder) / "out")
        match = [*geomatch, "match", "--overwrite", "-o", out]
        small = [str(TEAPOTS / f"{name}.png") for name in ("a", "b")]
        for label, command, runs in (
            ("python -c pass", [sys.executable, "-c", "pass"], 9),
            ("geomatch --help", [*geomatch, "--help"], 9),
            ("geomatch match, 480 x 360, fast", [*match, *small, "--preset", "fast"], 3),
            ("geomatch match, 480 x 360, default", [*match, *small], 3),
            ("geomatch match, 480 x 360, precise", [*match, *small, "--preset", "precise"], 3),
            ("geomatch match, 4000 x 3000, default", [*match, *large], 2),
        ):
            seconds, peak = whole_process(command, runs)
            table.add_row(label, f"{seconds:.2f}", f"{seconds / empty:.1f}", f"{peak:.0f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
