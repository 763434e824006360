"""Kill `geomatch transfer` from many references at random moments, and resume it.

    python benchmarks/many/transfer_kills.py [--photographs DIR] [--images 12] [--side 160] [--kills 20] [--seed 0]

Six points are marked on one half of the images, at the same places; they are transferred to the other half, in two
rounds, into labelme files and a page to review. After each kill the same command is resumed. Then every file, and every
line on stdout, is compared with those of an undisturbed run.

Processes are forked from one that has loaded torch, and features are `hog`: a run is as short as it can be.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from batch import TEAPOTS, photographs
from PIL import Image
from rich.console import Console

from geomatch.cli.app import main as geomatch

PLACES = [(x, y) for y in (0.4, 0.6) for x in (0.3, 0.5, 0.7)]
"""Of the points, as shares of an image's width and height."""


def command(images: Sequence[Path], folder: Path) -> list[str]:
    half = len(images) // 2
    rows = ["image,name,x,y"]
    for path in images[:half]:
        with Image.open(path) as image:
            width, height = image.size
        rows += [f"{path},p{number},{x * width:.0f},{y * height:.0f}" for number, (x, y) in enumerate(PLACES)]
    (folder / "references.csv").write_text("\n".join(rows))
    words = ["transfer", *map(str, images[half:]), "--keypoints", str(folder / "references.csv"), "--rounds", "2"]
    return [*words, "--features", "hog", "--format", "labelme", "-o", "out", "--review", "look"]


def start(words: Sequence[str], folder: Path) -> BaseProcess:
    """The command in a folder, where `lines` and `notes` take what it prints."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["geomatch.pipeline", "geomatch.cli.app"])
    process = context.Process(target=run, args=(words, folder))
    process.start()
    return process


def run(words: Sequence[str], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    for number, name in ((1, "lines"), (2, "notes")):
        os.dup2(os.open(folder.with_suffix(f".{name}"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = ["geomatch", *words]
    geomatch()


def finished(words: Sequence[str], folder: Path) -> tuple[int | None, str]:
    """Exit status, and what was printed on stdout."""
    process = start(words, folder)
    process.join()
    return process.exitcode, folder.with_suffix(".lines").read_text()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, default=TEAPOTS)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--side", type=int, default=160)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    console, dice = Console(width=140), random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        words = command(photographs(given.photographs, folder / "images", given.images, given.side), folder)
        finished(words, folder / "first")  # starts the process that others are forked from
        began = time.perf_counter()
        calm = finished(words, folder / "undisturbed")
        seconds, expected = time.perf_counter() - began, files(folder / "undisturbed")
        console.print(f"status {calm[0]}, {len(calm[1].splitlines())} lines, {len(expected)} files, {seconds:.1f} s")
        there, same = [], 0
        for number in range(given.kills):
            trial = folder / f"killed-{number}"
            process = start(words, trial)
            time.sleep(dice.uniform(0, seconds))
            process.kill()
            process.join()
            there.append(len(files(trial)) if trial.exists() else 0)
            same += finished([*words, "--resume"], trial) == calm and files(trial) == expected
            shutil.rmtree(trial)
        console.print(
            f"killed with {sorted(there)} files there; resumed, identical in every byte: {same} of {given.kills}"
        )


if __name__ == "__main__":
    main()
