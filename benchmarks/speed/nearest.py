"""Exact nearest neighbours both ways: geomatch's single chunked pass against its peers, time and peak memory.

    python benchmarks/speed/nearest.py [--threads 2] [--rounds 3]

Every method runs in its own process, in turn with the others, on the same random unit descriptors. A round's time is
the median of its repeats; the table shows the median of the rounds. Memory is the growth of the process's peak after
the descriptors were made. All methods must agree on every partner, except where scores tie within rounding; the product
alone, which any of them needs, finds none.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from subprocess_measurement import measure_in_subprocess
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.geometry.grid import Grid
from geomatch.matching.base import MatchContext
from geomatch.matching.nearest import nearest_partners

SIDES = (28, 56, 112)  # 784, 3,136 and 12,544 cells
CHANNELS = (256, 1024)
BOUND = 64 << 20

Method = Callable[[FeatureMap, FeatureMap], tuple[Tensor, Tensor] | None]


def chunked(source: FeatureMap, target: FeatureMap) -> tuple[Tensor, Tensor]:
    found = nearest_partners(MatchContext(source, target, BOUND))
    return found.forward, found.backward


def whole_matrix(source: FeatureMap, target: FeatureMap) -> tuple[Tensor, Tensor]:
    scores = source.descriptors.flatten(1).mT @ target.descriptors.flatten(1)
    return scores.argmax(dim=1), scores.argmax(dim=0)


def product_alone(source: FeatureMap, target: FeatureMap) -> None:
    torch.mm(source.descriptors.flatten(1).mT, target.descriptors.flatten(1))


def faiss_twice(source: FeatureMap, target: FeatureMap) -> tuple[Tensor, Tensor]:
    import faiss

    a, b = (f.descriptors.flatten(1).mT.contiguous().numpy() for f in (source, target))
    found = []
    for queries, base in ((a, b), (b, a)):
        index = faiss.IndexFlatIP(base.shape[1])
        index.add(base)
        found.append(torch.from_numpy(index.search(queries, 1)[1][:, 0]))
    return found[0], found[1]


METHODS: dict[str, Method] = {
    "geomatch": chunked,
    "torch, whole matrix": whole_matrix,
    "torch, product alone": product_alone,
    "faiss, twice": faiss_twice,
}


def descriptors(side: int, channels: int, seed: int) -> FeatureMap:
    values = torch.randn(channels, side, side, generator=torch.Generator().manual_seed(seed))
    size = (side * 16, side * 16)
    return FeatureMap(torch.nn.functional.normalize(values, dim=0), size, Grid.over(size, side, side))


def measure(name: str, side: int, channels: int, threads: int, out: Connection) -> None:
    """In a child process: send (seconds, bytes, disagreements with float64 beyond rounding)."""
    torch.set_num_threads(threads)
    if name.startswith("faiss"):
        import faiss

        faiss.omp_set_num_threads(threads)
    source, target = descriptors(side, channels, 0), descriptors(side, channels, 1)
    tiny = descriptors(4, 8, 0)
    METHODS[name](tiny, tiny)  # libraries load now, not while we measure
    before = peak()
    found = METHODS[name](source, target)
    grown = peak() - before
    times = []
    for _ in range(3 if side > 100 else 7):
        began = time.perf_counter()
        METHODS[name](source, target)
        times.append(time.perf_counter() - began)
    out.send((statistics.median(times), grown, wrong(source, target, *found) if found else 0))


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def wrong(source: FeatureMap, target: FeatureMap, forward: Tensor, backward: Tensor) -> int:
    """Partners whose score is lower than the best one by more than rounding, on a sample of cells."""
    a, b = (f.descriptors.flatten(1).double() for f in (source, target))
    cells = torch.from_numpy(np.random.default_rng(0).permutation(a.shape[1])[:500])
    missed = 0
    for ours, theirs, found in ((a, b, forward), (b, a, backward)):
        scores = ours[:, cells].mT @ theirs
        chosen = scores.gather(1, found[cells, None])[:, 0]
        missed += int((scores.amax(dim=1) - chosen > 1e-6).sum())
    return missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    table = Table(
        title=f"nearest neighbours both ways, {options.threads} threads, geomatch bounded to {BOUND >> 20} MiB"
    )
    for column in ("cells", "channels", "method", "ms", "times geomatch", "peak MiB", "wrong"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for side in SIDES:
        for channels in CHANNELS:
            rounds = [
                {name: measure_in_subprocess(measure, name, side, channels, options.threads) for name in METHODS}
                for _ in range(options.rounds)
            ]
            for name in METHODS:
                seconds = statistics.median(r[name][0] for r in rounds)
                ratio = statistics.median(r[name][0] / r["geomatch"][0] for r in rounds)
                memory = max(r[name][1] for r in rounds) / (1 << 20)
                missed = max(r[name][2] for r in rounds)
                table.add_row(
                    str(side * side),
                    str(channels),
                    name,
                    f"{seconds * 1e3:.1f}",
                    f"{ratio:.2f}",
                    f"{memory:.0f}",
                    str(missed),
                )
            table.add_section()
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
