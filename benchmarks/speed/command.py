"""Time and peak memory of whole processes: `geomatch --help` and `geomatch match`, against what they cannot do without.

    python benchmarks/speed/command.py [--rounds 5] [--presets fast default precise] [--large]

The yardstick of `--help` is an empty Python, that of a match is `python -c 'import torch'`. All commands run in turn in
each round. The seconds are those of the clock and of the processor; where other work shares the machine, trust the
latter, and the least more than the median. A ratio is of the least seconds, and the median of the rounds' ratios.
A peak is at least that of this benchmark itself, since a process starts from it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from PIL import Image
from rich.console import Console
from rich.table import Table

TEAPOTS = Path(__file__).parents[2] / "examples" / "teapots"
EMPTY, TORCH = "python -c pass", "python -c 'import torch'"


@dataclass(frozen=True)
class Run:
    """clock, processor: seconds. peak: MiB."""

    clock: float
    processor: float
    peak: float


def whole_process(command: Sequence[str], environment: Mapping[str, str] = MappingProxyType({})) -> Run:
    """A command from its start to its end. environment: beside that of this process."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | dict(environment))
    _, status, usage = os.wait4(process.pid, 0)
    clock = time.perf_counter() - began
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"failed: {' '.join(command)}")
    return Run(clock, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def commands(folder: Path, presets: Sequence[str], *, large: bool) -> dict[str, tuple[list[str], str]]:
    """The command lines, and the yardstick of each, by name."""
    python, geomatch = [sys.executable], [sys.executable, "-m", "geomatch"]
    match = [*geomatch, "match", "--overwrite", "-o", str(folder / "out")]
    small = [str(TEAPOTS / f"{name}.png") for name in ("a", "b")]
    found = {
        EMPTY: ([*python, "-c", "pass"], EMPTY),
        "geomatch --help": ([*geomatch, "--help"], EMPTY),
        TORCH: ([*python, "-c", "import torch"], TORCH),
    }
    for preset in presets:
        line = [*match, *small, "--preset", preset]
        found[f"geomatch match, 480 x 360, {preset}"] = (line, TORCH)
        found[f"the same without pictures, {preset}"] = ([*line, "--no-pictures"], TORCH)
    if large:
        images = []
        for name in ("a", "b"):
            path = folder / f"{name}.jpg"
            Image.open(TEAPOTS / f"{name}.png").resize((4000, 3000), Image.Resampling.BICUBIC).save(path, quality=90)
            images.append(str(path))
        found["geomatch match, 4000 x 3000, default"] = ([*match, *images], TORCH)
    return found


def table_of(runs: Mapping[str, Sequence[Run]], yardsticks: Mapping[str, str]) -> Table:
    table = Table(title="whole processes: least, median")
    for column in ("command", "clock, s", "processor, s", "times", "clock", "processor", "peak MiB"):
        table.add_column(column, justify="left" if column in ("command", "times") else "right")
    for name, own in runs.items():
        base = runs[yardsticks[name]]
        cells = []
        for kind in ("clock", "processor"):
            values = [getattr(run, kind) for run in own]
            cells.append(f"{min(values):.3f}, {statistics.median(values):.3f}")
        for kind in ("clock", "processor"):
            pairs = [(getattr(run, kind), getattr(other, kind)) for run, other in zip(own, base, strict=True)]
            least = min(mine for mine, _ in pairs) / min(theirs for _, theirs in pairs)
            cells.append(f"{least:.2f}, {statistics.median(mine / theirs for mine, theirs in pairs):.2f}")
        table.add_row(name, *cells[:2], yardsticks[name], *cells[2:], f"{max(run.peak for run in own):.0f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--presets", nargs="+", default=["fast", "default", "precise"])
    parser.add_argument("--large", action="store_true", help="also match two pictures of 4000 x 3000 pixels")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines = commands(Path(folder), options.presets, large=options.large)
        for line, _ in lines.values():
            whole_process(line)  # from now on the disk is warm
        runs: dict[str, list[Run]] = {name: [] for name in lines}
        for _ in range(options.rounds):
            for name, (line, _) in lines.items():
                runs[name].append(whole_process(line))
    Console(width=150).print(table_of(runs, {name: yardstick for name, (_, yardstick) in lines.items()}))


if __name__ == "__main__":
    main()
