"""Measure what extraction costs: processor time and peak memory of each feature, relative to introspection.

    python benchmarks/speed/extraction.py [--threads 1] [--rounds 3] [--features NAME ...]
    python benchmarks/speed/extraction.py --batch 1 2 4 8 [--threads 1] [--rounds 3]

Each feature is extracted from a random image of 640 x 480 pixels, preset `default`, in a process of its own; features
take turns. The time of a round is the median of seven extractions, and the table shows the median of the rounds. It is
processor time, so that other work on the machine hardly matters. Memory is the peak of the whole process.

--batch compares introspection by how many images one pass reads, instead: of each size the time of eight images, and
whether their features are those of single images to the last bit.
"""

from __future__ import annotations

import argparse
import resource
import statistics
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection

import torch
from rich.console import Console
from rich.table import Table
from subprocess_measurement import measure_in_subprocess, median_seconds
from torch import Tensor

from geomatch.features.load import load_features
from geomatch.options import PRESETS, Preset

REFERENCE = "introspection"
IMAGES = 8
"""Of a measurement of batches."""


def measure(name: str, threads: int, out: Connection) -> None:
    """In a subprocess, send the seconds of an extraction and the peak memory in bytes."""
    torch.set_num_threads(threads)
    size = PRESETS[Preset.default].working_size
    extractor = load_features(name, working_size=size, device=torch.device("cpu"))
    image = torch.randint(0, 256, (3, 480, 640), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    extractor(image)
    out.send((median_seconds(lambda: extractor(image), 7), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def measure_batches(batches: Sequence[int], threads: int, out: Connection) -> None:
    """In a subprocess, send the seconds an image of each size of batch, and whether the features are the same."""
    torch.set_num_threads(threads)
    size = PRESETS[Preset.default].working_size
    extractor = load_features(REFERENCE, working_size=size, device=torch.device("cpu"))
    dice = torch.Generator().manual_seed(0)
    images = list(torch.randint(0, 256, (IMAGES, 3, 480, 640), dtype=torch.uint8, generator=dice))
    alone = [extractor(image).descriptors for image in images]

    def extract(batch: int) -> list[Tensor]:
        parts = (extractor.extract_batch(images[start : start + batch]) for start in range(0, IMAGES, batch))
        return [features.descriptors for part in parts for features in part]

    same = {batch: all(map(torch.equal, extract(batch), alone)) for batch in batches}
    out.send({batch: (median_seconds(partial(extract, batch), 3) / IMAGES, same[batch]) for batch in batches})


def print_batches(batches: Sequence[int], threads: int, rounds: int) -> None:
    found = [measure_in_subprocess(measure_batches, batches, threads) for _ in range(rounds)]
    table = Table()
    for column in ("images in a pass", "ms per image", "same bits"):
        table.add_column(column, justify="right")
    for batch in batches:
        seconds = statistics.median(each[batch][0] for each in found)
        table.add_row(str(batch), f"{1e3 * seconds:.0f}", "yes" if all(each[batch][1] for each in found) else "no")
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--features", nargs="+", default=["anchornet", "hypercolumn"])
    parser.add_argument("--batch", type=int, nargs="+")
    options = parser.parse_args()

    if options.batch:
        print_batches(options.batch, options.threads, options.rounds)
        return
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
