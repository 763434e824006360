"""A list on Ray with two processes, compared with two independent processes that do half of the list each.

    python benchmarks/many/engines.py [--photographs DIR] [--images 30] [--pairs 200] [--side 300] [--preset fast]
        [--rounds 3]

All have one thread. Whole commands are timed in turn, by the clock, with that list and with a list of two pairs. The
difference is what the list itself takes, without the start of Ray and the loading of torch and weights; the ratios are
those of the least times. Run it where nothing else does.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from batch import TEAPOTS, list_of, photographs, some_pairs, table_of
from rich.console import Console

from geomatch.options import Preset

PROCESSES = 2


def start(pairs: Path, out: Path, preset: Preset, more: Sequence[str], **environment: str) -> subprocess.Popen[bytes]:
    words = ["match", "--pairs", str(pairs), "-o", str(out), "--preset", preset, "--no-pictures", "--quiet", *more]
    return subprocess.Popen(
        [sys.executable, "-m", "geomatch", *words],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )


def independent(pairs: Path, out: Path, preset: Preset) -> list[subprocess.Popen[bytes]]:
    size = str(PROCESSES)
    return [start(pairs, out, preset, (), RANK=str(rank), WORLD_SIZE=size) for rank in range(PROCESSES)]


def on_ray(pairs: Path, out: Path, preset: Preset) -> list[subprocess.Popen[bytes]]:
    return [start(pairs, out, preset, ("--engine", "ray"))]


WAYS = {"two independent processes": independent, "Ray, two processes": on_ray}


def seconds(way: str, pairs: Path, out: Path, preset: Preset) -> float:
    began = time.perf_counter()
    for process in WAYS[way](pairs, out, preset):
        if process.wait():
            raise SystemExit(f"failed: {way}")
    spent = time.perf_counter() - began
    shutil.rmtree(out)
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, default=TEAPOTS)
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--side", type=int, default=300)
    parser.add_argument("--preset", type=Preset, default=Preset.fast)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lists = {}
        for count in (PROCESSES, given.pairs):
            (place := folder / str(count)).mkdir()
            images = photographs(given.photographs, place, given.images, given.side)
            lists[count] = list_of(some_pairs(images, count), place)
        spent: dict[tuple[str, int], list[float]] = {(way, count): [] for way in WAYS for count in lists}
        for _ in range(given.rounds):
            for way, count in spent:
                spent[way, count].append(seconds(way, lists[count], folder / "out", given.preset))
    table = table_of(f"seconds, least of {given.rounds}", "2 pairs", f"{given.pairs} pairs", "the list itself")
    least = {key: min(values) for key, values in spent.items()}
    for way in WAYS:
        few, many = least[way, PROCESSES], least[way, given.pairs]
        table.add_row(way, f"{few:.1f}", f"{many:.1f}", f"{many - few:.1f}")
    (first, second) = ([least[way, given.pairs], least[way, given.pairs] - least[way, PROCESSES]] for way in WAYS)
    table.add_row(
        "speed of Ray, of independent processes", "", *(f"{a / b:.2f}" for a, b in zip(first, second, strict=True))
    )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
