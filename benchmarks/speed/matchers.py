"""What matching a pair costs: processor time and peak memory of each matcher, beside extracting features.

    python benchmarks/speed/matchers.py [--threads 1] [--rounds 3] [--features NAME] [--matchers NAME ...]

Each matcher matches the two teapots of the examples, preset `default`, in its own process, in turn with the others. A
round's time is the median of five; the table shows the median of the rounds. Time is the processor's, so that other
work on the machine matters little. Memory is the peak of the whole process, extraction included.
"""

from __future__ import annotations

import argparse
import resource
import statistics
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from subprocess_measurement import measure_in_subprocess, median_seconds

from geomatch.io.images import load_image
from geomatch.options import Device
from geomatch.pipeline import Pipeline
from geomatch.registry import MATCHERS

TEAPOTS = Path(__file__).parents[2] / "examples" / "teapots"
Costs = tuple[float, float, int]


def measure(features: str | None, matcher: str, threads: int, out: Connection) -> None:
    """In a child process: send seconds of extracting and of matching, and the peak of memory in bytes."""
    torch.set_num_threads(threads)
    pipeline = Pipeline(features=features, matcher=matcher, device=Device.cpu)
    images = [load_image(TEAPOTS / name) for name in ("a.png", "b.png")]
    extracted = [pipeline.extract(image) for image in images]
    extracting = median_seconds(lambda: [pipeline.extract(image) for image in images], 5)
    matching = median_seconds(lambda: pipeline.match(*extracted), 5)
    out.send((extracting, matching, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--features", help="by default the preset's")
    every = [name for name in MATCHERS.entries if not name.startswith("scnet")]  # whose weights are not shipped
    parser.add_argument("--matchers", nargs="+", default=every)
    options = parser.parse_args()

    rounds = [
        {name: measure_in_subprocess(measure, options.features, name, options.threads) for name in options.matchers}
        for _ in range(options.rounds)
    ]
    table = Table()
    for column in ("matcher", "ms a pair", "of extracting both images", "peak memory, MiB"):
        table.add_column(column, justify="left" if column == "matcher" else "right")
    for name in options.matchers:
        share = statistics.median(each[name][1] / each[name][0] for each in rounds)
        seconds, memory = (statistics.median(each[name][part] for each in rounds) for part in (1, 2))
        table.add_row(name, f"{1e3 * seconds:.0f}", f"{share:.2f}", f"{memory / 2**20:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
