"""How many machines a list of pairs can use: measured costs, and a simulation of large lists on them.

    OMP_NUM_THREADS=1 python benchmarks/many/scale.py [--photographs DIR] [--images 12] [--side 300] [--preset fast]
        [--costs FILE] [--processors 8] [--disk 1000 20000] [--partners 100]

First the costs are measured on this machine, in seconds of one processor: reading, extracting, matching, encoding and
writing a result, and what the process that hands out the work needs for a pair and for a chunk, its Ray calls included.
--costs FILE reads them from there if it exists, else writes them there. Seconds of the processor, not of the clock, so
that other work on the machine hardly counts; one thread, since a process of the cluster has one.

Then lists are simulated event by event: processes take chunks, one after the other, from one process that hands them
out, and share a disk of --disk MB/s. Those rates and --processors, of a machine, are assumptions, not measurements.
Each image has --partners partners. A chunk takes as long as its images and pairs, times a random factor (log-normal,
0.2). Of lists of more than 40 chunks a process the simulation takes a part, and its rate for the rest.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice, permutations, product
from pathlib import Path
from typing import Any

from batch import TEAPOTS, list_of, photographs, table_of
from rich.console import Console

from geomatch.batch.match_pairs import MatchJob, assign_folders
from geomatch.batch.match_record import Outputs, match_record, write_match
from geomatch.io.formats.png import QUICK
from geomatch.io.images import read_image
from geomatch.io.json_text import json_text
from geomatch.io.pairs import read_pairs
from geomatch.options import Preset
from geomatch.pipeline import Pipeline
from geomatch.result import USUAL_PICTURES, flow_files, picture_files
from geomatch.runtime.engines.chunks import MOST_WORK, Chunk, chunks_of
from geomatch.runtime.engines.schedule import Outcome, Schedule
from geomatch.runtime.engines.worker import Answer
from geomatch.runtime.parallel_map import Finished

SPREAD = 0.2
MOST_CHUNKS = 40
CALLS = 200


@dataclass(frozen=True)
class Costs:
    """Seconds of a processor: of an image read, extract; of a pair match, write (without pictures), draw; of the
    process that hands out work pair and chunk. megabytes: of a pair's files, without and with pictures.
    pair_bytes: memory there. images: of a chunk of ``pairs`` pairs."""

    read: float
    extract: float
    match: float
    write: float
    draw: float
    pair: float
    chunk: float
    megabytes: float
    megabytes_drawn: float
    pair_bytes: float
    images: float
    pairs: float


def seconds(work: Callable[[], object], times: int) -> float:
    began = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - began) / times


def measure(photos: Path, count: int, side: int, preset: Preset, partners: int) -> Costs:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        paths = photographs(photos, folder / "images", count, side)
        here = measure_pairs(paths, Pipeline(preset=preset), folder)
        return Costs(**here, **measure_list(folder, partners))


def measure_pairs(paths: Sequence[Path], pipeline: Pipeline, folder: Path) -> dict[str, float]:
    """What images and pairs cost the processes of the cluster."""
    images = [read_image(path) for path in paths]
    features = [pipeline.extract(image.pixels) for image in images]
    found = pipeline.match(features[0], features[1])
    pairs = list(islice(permutations(range(len(paths)), 2), 2 * len(paths)))
    pending = iter(pairs)

    def match() -> None:
        source, target = next(pending)
        pipeline.match(features[source], features[target])

    first, second = ((path, image.sha256) for path, image in zip(paths[:2], images, strict=False))

    def write() -> None:
        files = flow_files(found, ["flo"])
        write_match(folder / "a--b", match_record(first, second, pipeline, found, folder / "a--b", files), files)

    def draw() -> Mapping[str, bytes]:
        return picture_files(images[0].pixels, images[1].pixels, found, USUAL_PICTURES, QUICK)

    flow = sum(map(len, flow_files(found, ["flo"]).values())) / 1e6
    extracting = iter(images)
    return {
        "read": seconds(lambda: [read_image(path) for path in paths], 1) / len(paths),
        "extract": seconds(lambda: pipeline.extract(next(extracting).pixels), len(images)),
        "match": seconds(match, len(pairs)),
        "write": seconds(write, 20),
        "draw": seconds(draw, 10),
        "megabytes": flow,
        "megabytes_drawn": flow + sum(map(len, draw().values())) / 1e6,
    }


class Immediate:
    """A pool that has finished each chunk when it is asked."""

    def __init__(self) -> None:
        self.given: list[Chunk] = []

    idle, busy = True, True

    def give(self, chunk: Chunk) -> None:
        self.given.append(chunk)

    def wait(self) -> Outcome:
        chunk = self.given.pop()
        return Outcome(chunk, "here", Answer([Finished({"place": place}) for place in chunk.places]))


def measure_list(folder: Path, partners: int) -> dict[str, float]:
    """What a list of pairs costs the process that hands it out: to read it, cut it into chunks, and print its lines."""
    count = 20_000 // partners
    names = [Path(f"images/{number:06}.jpg") for number in range(count + partners)]
    pairs = [(names[a], names[a + b]) for a in range(count) for b in range(1, partners + 1)]
    line = json_text({"source": "s" * 60, "record": ["x" * 20] * 60})
    list_file = list_of(pairs, folder)
    chunks: list[Chunk] = []

    def hand_out() -> None:
        items = assign_folders(read_pairs(list_file), folder / "out")
        job = MatchJob(lambda: Pipeline(), Outputs(["flo"]), folder / "out")
        images = [job.images(item) for item in items]
        chunks[:] = list(chunks_of(images, MOST_WORK))
        pool: Any = Immediate()
        pool.idle = False
        for chunk in chunks:
            pool.give(chunk)
        for finished in Schedule(pool, job, items, iter(())).run():
            json_text({**finished.record, "line": line})

    per_pair = seconds(hand_out, 1) / len(pairs)
    tracemalloc.start()
    kept = assign_folders(read_pairs(list_file), folder / "out")
    pair_bytes = tracemalloc.get_traced_memory()[0] / len(kept)
    tracemalloc.stop()
    needed = [len({image for place in chunk.places for image in pairs[place]}) for chunk in chunks]
    return {
        "pair": per_pair,
        "chunk": measure_calls(),
        "pair_bytes": pair_bytes,
        "images": sum(needed) / len(chunks),
        "pairs": len(pairs) / len(chunks),
    }


def measure_calls() -> float:
    """What it costs to have Ray call an actor and return its answer, of the sizes of a chunk."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=1, object_store_memory=1 << 27, include_dashboard=False, log_to_driver=False)

    def work(items: Sequence[object]) -> Answer:
        return Answer([Finished({"text": "x" * 2000}) for _ in items])

    call = ray.remote(work)
    items = [(Path(f"{number:06}.jpg"), Path("a.jpg"), Path("out/a")) for number in range(30)]

    def call_once() -> None:
        (done,), _ = ray.wait([call.remote(items)])
        ray.get(done)

    call_once()
    cost = seconds(call_once, CALLS)
    ray.shutdown()
    return cost


@dataclass(frozen=True)
class Cluster:
    """Machines of so many processors each, and a disk that all share."""

    machines: int
    processors: int
    disk: float  # MB/s

    @property
    def processes(self) -> int:
        return self.machines * self.processors


@dataclass(frozen=True)
class Simulated:
    """seconds: of the clock. working, handing, disk: shares of it in which the processes work, and in which the process
    that hands out work and the disk are busy."""

    seconds: float
    working: float
    handing: float
    disk: float


def simulate(costs: Costs, pairs: int, cluster: Cluster, *, drawn: bool) -> Simulated:
    chunks = max(1, round(pairs / costs.pairs))
    part = min(chunks, MOST_CHUNKS * cluster.processes)
    work = costs.images * (costs.read + costs.extract) + costs.pairs * (costs.match + costs.write + drawn * costs.draw)
    hand = costs.chunk + costs.pairs * costs.pair
    store = costs.pairs * (costs.megabytes_drawn if drawn else costs.megabytes) / cluster.disk
    dice = random.Random(0)
    handed = stored = 0.0  # when the process that hands out work, and the disk, are free again
    events = [(0.0, True)] * cluster.processes  # a process is free, or has a chunk to store
    begun, steady, whole = 0, 0.0, 0.0
    while events:
        now, free = heapq.heappop(events)
        if not free:
            stored = whole = max(stored, now) + store
            heapq.heappush(events, (stored, True))
        elif begun < part:
            handed = max(handed, now) + hand
            heapq.heappush(events, (handed + work * dice.lognormvariate(0, SPREAD), False))
            begun += 1
            steady = handed if begun == part // 2 else steady
    rate = (handed - steady) / (part - part // 2)
    total = whole + (chunks - part) * rate
    return Simulated(total, chunks * work / (total * cluster.processes), chunks * hand / total, chunks * store / total)


def report(costs: Costs, processors: int, disks: Sequence[float], console: Console) -> None:
    table = table_of("costs: seconds of a processor, unless it says otherwise", "value")
    for name, value in asdict(costs).items():
        table.add_row(name, f"{value:.6g}")
    console.print(table)
    for disk, drawn in product(disks, (False, True)):
        title = f"{'with' if drawn else 'without'} pictures; machines of {processors} processors, disk {disk:g} MB/s"
        table = table_of(title, "hours", "of the ideal", "handing out", "disk", "list in memory, GB")
        for pairs, machines in sizes():
            done = simulate(costs, pairs, Cluster(machines, processors, disk), drawn=drawn)
            table.add_row(
                f"{pairs:,} pairs, {machines:,} machines",
                f"{done.seconds / 3600:.2f}",
                f"{done.working:.2f}",
                f"{done.handing:.2f}",
                f"{done.disk:.2f}",
                f"{pairs * costs.pair_bytes / 1e9:.1f}",
            )
        console.print(table)


def sizes() -> Iterator[tuple[int, int]]:
    for pairs in (10**6, 10**8):
        for machines in (10, 30, 100, 300, 1000):
            yield pairs, machines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, default=TEAPOTS)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--side", type=int, default=300)
    parser.add_argument("--preset", type=Preset, default=Preset.fast)
    parser.add_argument("--costs", type=Path)
    parser.add_argument("--processors", type=int, default=8)
    parser.add_argument("--disk", type=float, nargs="+", default=[1000.0, 20000.0], help="MB/s")
    parser.add_argument("--partners", type=int, default=100)
    given = parser.parse_args()
    if given.costs and given.costs.exists():
        costs = Costs(**json.loads(given.costs.read_text()))
    else:
        costs = measure(given.photographs, given.images, given.side, given.preset, given.partners)
        if given.costs:
            given.costs.write_text(json.dumps(asdict(costs), indent=1))
    report(costs, given.processors, given.disk, Console(width=140))


if __name__ == "__main__":
    main()
