"""Time and memory of `geomatch eval`: the share of each stage, and memory over the number of pairs.

    python benchmarks/speed/evaluation.py                              # simulated, with the size of SPair-71k
    python benchmarks/speed/evaluation.py --pf-willow PF-dataset       # also the real benchmark

The simulated benchmark has 18 classes of 100 noise images of 200 x 150 pixels, and 12,234 pairs within classes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

CLASSES, IMAGES, PAIRS = 18, 100, 12_234
WIDTH, HEIGHT = 200, 150
SIZES = (1_000, 10_000, PAIRS)


def write_benchmark(root: Path) -> None:
    """Write the simulated benchmark in the layout of SPair-71k, as animal-parts, which has no published size."""
    random = np.random.default_rng(0)
    (root / "PairAnnotation" / "test").mkdir(parents=True)
    for number in range(CLASSES):
        folder = root / "JPEGImages" / f"class{number:02}"
        folder.mkdir(parents=True)
        for index in range(IMAGES):
            noise = random.integers(0, 256, (HEIGHT // 10, WIDTH // 10, 3), np.uint8)
            Image.fromarray(noise).resize((WIDTH, HEIGHT)).save(folder / f"{index:03}.jpg")
    for number in range(PAIRS):
        category = f"class{number * CLASSES // PAIRS:02}"
        source, target = random.choice(IMAGES, 2, replace=False)
        points = [random.integers(0, (WIDTH, HEIGHT), (8, 2)).tolist() for _ in range(2)]
        entry = {
            "category": category,
            "src_imname": f"{source:03}.jpg",
            "trg_imname": f"{target:03}.jpg",
            "src_kps": points[0],
            "trg_kps": points[1],
            "src_bndbox": [0, 0, WIDTH, HEIGHT],
            "trg_bndbox": [0, 0, WIDTH, HEIGHT],
        }
        (root / "PairAnnotation" / "test" / f"{number:06}.json").write_text(json.dumps(entry))


def evaluate(dataset: str, root: Path, cache: Path, *more: str) -> tuple[dict[str, Any], float]:
    """The JSON of one run, and its peak memory in MiB."""
    command = [sys.executable, "-m", "geomatch", "eval", "--dataset", dataset, "--root", str(root), "--json", "--fresh"]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen([*command, *more], stdout=output, stderr=subprocess.DEVNULL, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        if os.waitstatus_to_exitcode(status) != 0:
            raise SystemExit(f"failed: {' '.join([*command, *more])}")
        output.seek(0)
        return json.load(output), usage.ru_maxrss / 1024


def make_row(label: str, record: dict[str, Any], peak: float) -> tuple[str, ...]:
    seconds = record["seconds"]
    total = sum(seconds.values())
    shares = (f"{seconds[stage] / total:.0%}" for stage in ("reading", "extraction", "matching", "scoring"))
    return (
        label,
        f"{record['pairs']:,}",
        str(record["extractions"]),
        f"{record['pairs'] / total:.1f}",
        *shares,
        f"{peak:.0f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pf-willow", type=Path, help="folder of PF-WILLOW")
    arguments = parser.parse_args()
    table = Table(title="geomatch eval")
    for column in (
        "run",
        "pairs",
        "extractions",
        "pairs/s",
        "reading",
        "extraction",
        "matching",
        "scoring",
        "peak MiB",
    ):
        table.add_column(column, justify="left" if column == "run" else "right")
    with tempfile.TemporaryDirectory() as folder:
        root, cache = Path(folder) / "benchmark", Path(folder) / "cache"
        if arguments.pf_willow:
            for preset in ("fast", "default"):
                run = evaluate("pf-willow", arguments.pf_willow, cache, "--preset", preset)
                table.add_row(*make_row(f"PF-WILLOW, {preset}", *run))
        write_benchmark(root)
        for size in SIZES:
            run = evaluate("animal-parts", root, cache, "--preset", "fast", "--limit", str(size))
            table.add_row(*make_row("simulated, fast", *run))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
