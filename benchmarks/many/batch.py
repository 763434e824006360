"""Time and memory of a batch of pairs, compared with the ideal and with single matches.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/many/batch.py [--photographs DIR] [--images 40] [--pairs 300] [--side 300]
        [--preset fast]

`geomatch` sets that policy itself; without it the threads of the ideal spin, in up to ten times its processor time.

The ideal extracts each image once and matches each pair, all in memory, and reads or writes nothing. It is timed in the
same process as the batch, in turn with it, in seconds of the clock and of the processor; where other work shares the
machine, trust the latter. Before that, whole commands are timed: the batch, and --singles single `geomatch match`
calls, if any.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

from geomatch.batch.match_pairs import PairMatcher, assign_folders, prepare_folders
from geomatch.batch.match_record import Outputs
from geomatch.io.images import image_suffixes, load_image
from geomatch.options import Preset
from geomatch.pipeline import Pipeline

TEAPOTS = Path(__file__).parents[2] / "examples" / "teapots"
PathPair = tuple[Path, Path]


@dataclass(frozen=True)
class Cost:
    """In seconds."""

    clock: float
    processor: float


def photographs(folder: Path, into: Path, count: int, side: int) -> list[Path]:
    """``count`` images from a folder tree, taken evenly, scaled to ``side`` pixels along the longer side. Where there
    are fewer, some are rotated copies."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in image_suffixes())
    written = []
    for number in range(count):
        with Image.open(found[number * len(found) // count % len(found)]) as image:
            picture = image.convert("RGB").rotate(7 * (number // len(found)))
        picture.thumbnail((side, side))
        written.append(into / f"{number:04}.jpg")
        picture.save(written[-1], quality=92)
    return written


def some_pairs(images: Sequence[Path], count: int) -> list[PathPair]:
    """``count`` pairs of different images in random order."""
    pairs = [(source, target) for source in images for target in images if source != target]
    random.Random(0).shuffle(pairs)
    return (pairs * -(-count // len(pairs)))[:count]


def timed(work: Callable[[], None]) -> Cost:
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - clock, time.process_time() - processor)


def command(arguments: Sequence[object]) -> Cost:
    """A whole `geomatch` process."""
    began = time.perf_counter()
    words = [sys.executable, "-m", "geomatch", *map(str, arguments)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"failed: {' '.join(words)}")
    return Cost(time.perf_counter() - began, usage.ru_utime + usage.ru_stime)


def ideal(pipeline: Pipeline, pairs: Sequence[PathPair]) -> Cost:
    pixels = {path: load_image(path) for pair in pairs for path in pair}

    def work() -> None:
        features = {path: pipeline.extract(image) for path, image in pixels.items()}
        for source, target in pairs:
            pipeline.match(features[source], features[target])

    return timed(work)


def batch(pipeline: Pipeline, pairs: Sequence[PathPair], folder: Path, *, pictures: bool) -> Cost:
    outputs = Outputs(["flo"]) if pictures else Outputs(["flo"], frozenset())
    places = assign_folders(pairs, folder)
    prepare_folders(places, folder, overwrite=False)

    def work() -> None:
        for finished in PairMatcher(places, lambda: pipeline, outputs).all():
            if finished.failed:
                raise SystemExit(f"failed: {finished.record}")

    cost = timed(work)
    shutil.rmtree(folder)
    return cost


def list_of(pairs: Sequence[PathPair], folder: Path) -> Path:
    path = folder / "pairs.jsonl"
    entries = [json.dumps({"source": str(source), "target": str(target)}) for source, target in pairs]
    path.write_text("\n".join(entries))
    return path


def in_one_process(pipeline: Pipeline, pairs: Sequence[PathPair], folder: Path, rounds: int) -> Table:
    pipeline.match(*(pipeline.extract(load_image(path)) for path in pairs[0]))
    ways: dict[str, Callable[[], Cost]] = {
        "ideal": lambda: ideal(pipeline, pairs),
        "batch, flow and record": lambda: batch(pipeline, pairs, folder / "out", pictures=False),
        "batch, with pictures": lambda: batch(pipeline, pairs, folder / "out", pictures=True),
    }
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            costs[name].append(way())
    columns = [f"{kind}, {what}" for kind in ("clock", "processor") for what in ("seconds", "share of the ideal")]
    table = table_of("in one process: least, median; the shares likewise", *columns)
    for name, own in costs.items():
        cells = []
        for kind in ("clock", "processor"):
            best, mine = ([getattr(cost, kind) for cost in each] for each in (costs["ideal"], own))
            shares = [one / other for one, other in zip(best, mine, strict=True)]
            cells.append(f"{min(mine):.2f}, {statistics.median(mine):.2f}")
            cells.append(f"{min(best) / min(mine):.2f}, {statistics.median(shares):.2f}")
        table.add_row(name, *cells)
    return table


def whole_commands(pairs: Sequence[PathPair], folder: Path, options: Sequence[str], singles: int) -> Table:
    table = table_of("whole commands", "pairs", "seconds", "processor seconds", "pairs a processor second")
    for name, more in (("flow and record", ["--no-pictures"]), ("with pictures", [])):
        many = command(["match", "--pairs", list_of(pairs, folder), "-o", folder / "out", *options, *more])
        shutil.rmtree(folder / "out")
        ones = [
            command(["match", *pair, "-o", folder / "out", "--overwrite", *options, *more]) for pair in pairs[:singles]
        ]
        shutil.rmtree(folder / "out")
        alone = Cost(sum(cost.clock for cost in ones), sum(cost.processor for cost in ones))
        for label, cost, count in ((f"batch, {name}", many, len(pairs)), (f"single calls, {name}", alone, singles)):
            speed = count / cost.processor
            table.add_row(label, f"{count}", f"{cost.clock:.2f}", f"{cost.processor:.2f}", f"{speed:.2f}")
    return table


def table_of(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, default=TEAPOTS)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--side", type=int, default=300)
    parser.add_argument("--preset", type=Preset, default=Preset.fast)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--singles", type=int, default=5)
    given = parser.parse_args()

    console = Console(width=120)
    options = ["--preset", given.preset.value]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        images = photographs(given.photographs, folder / "images", given.images, given.side)
        pairs = some_pairs(images, given.pairs)
        console.print(f"{len(pairs)} pairs of {len(images)} images of {given.side} pixels, preset {given.preset.value}")
        if given.singles:
            console.print(whole_commands(pairs, folder, options, given.singles))
        console.print(in_one_process(Pipeline(preset=given.preset), pairs, folder, given.rounds))
    console.print(f"peak of this benchmark: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
