"""What it costs, and saves, that threads of OpenMP sleep while they wait: time of `geomatch match`, whole processes.

    python benchmarks/speed/threads.py [--rounds 5] [--beside 0 2] [--preset default]

`sleep` is what `geomatch` sets, OMP_WAIT_POLICY=PASSIVE; `spin` is OpenMP's own default, 300,000 turns of a loop before
a thread sleeps. Both take turns, alone and beside so many processes that only compute. The table has the least and the
median of the rounds, in seconds of the clock and of the processor, and the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from command import TEAPOTS, Run, whole_process
from rich.console import Console
from rich.table import Table

from geomatch.options import Preset

WAYS = {"sleep": {"OMP_WAIT_POLICY": "PASSIVE"}, "spin": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "300000"}}


@contextmanager
def busy(count: int) -> Iterator[None]:
    """``count`` processes that compute until the block ends."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--beside", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--preset", type=Preset, default=Preset.default)
    options = parser.parse_args()

    images = [str(TEAPOTS / f"{name}.png") for name in ("a", "b")]
    table = Table(title=f"geomatch match, {options.preset.value}, {os.cpu_count()} processors: least, median")
    for column in ("beside", "threads", "clock, s", "of spin", "processor, s", "of spin"):
        table.add_column(column, justify="left" if column == "threads" else "right")
    for beside in options.beside:
        runs: dict[str, list[Run]] = {name: [] for name in WAYS}
        with tempfile.TemporaryDirectory() as folder, busy(beside):
            line = [sys.executable, "-m", "geomatch", "match", *images, "--overwrite", "-o", str(Path(folder) / "out")]
            for _ in range(options.rounds):
                for name, environment in WAYS.items():
                    runs[name].append(whole_process([*line, "--preset", options.preset.value], environment))
        for name, own in runs.items():
            cells = []
            for kind in ("clock", "processor"):
                values = [getattr(run, kind) for run in own]
                ratios = [value / getattr(spin, kind) for value, spin in zip(values, runs["spin"], strict=True)]
                cells += [f"{min(values):.2f}, {statistics.median(values):.2f}", f"{statistics.median(ratios):.2f}"]
            table.add_row(str(beside), name, *cells)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
