"""Measure what extraction costs: processor time and peak memory of each feature, relative to introspection.

    python benchmarks/speed/extraction.py [--threads 1] [--rounds 3] [--features NAME ...]

Each feature is extracted from a random image of 640 x 480 pixels, preset `default`, in a process of its own; features
take turns. The time of a round is the median of seven extractions, and the table shows the median of the rounds. It is
processor time, so that other work on the machine hardly matters. Memory is the peak of the whole process.
"""

from __future__ import annotations

import argparse
import resource
import statistics
from multiprocessing.connection import Connection

import torch
from rich.console import Console
from rich.table import Table
from subprocess_measurement import measure_in_subprocess, median_seconds

from geomatch.features.load import load_features
from geomatch.options import PRESETS, Preset

REFERENCE = "introspection"


def measure(name: str, threads: int, out: Connection) -> None:
    """In a subprocess, send the seconds of an extraction and the peak memory in bytes."""
    torch.set_num_threads(threads)
    size = PRESETS[Preset.default].working_size
    extractor = load_features(name, working_size=size, device=torch.device("cpu"))
    image = torch.randint(0, 256, (3, 480, 640), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    extractor(image)
    out.send((median_seconds(lambda: extractor(image), 7), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--features", nargs="+", default=["anchornet", "hypercolumn"])
    options = parser.parse_args()

    names = [REFERENCE, *options.features]
    rounds = [
        {name: measure_in_subprocess(measure, name, options.threads) for name in names} for _ in range(options.rounds)
    ]
    seconds = {name: statistics.median(each[name][0] for each in rounds) for name in names}
    table = Table()
    for column in ("features", "ms per image", f"relative to {REFERENCE}", "peak memory, MiB"):
        table.add_column(column, justify="left" if column == "features" else "right")
    for name in names:
        memory = statistics.median(each[name][1] for each in rounds)
        share = seconds[name] / seconds[REFERENCE]
        table.add_row(name, f"{1e3 * seconds[name]:.0f}", f"{share:.2f}", f"{memory / 2**20:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
