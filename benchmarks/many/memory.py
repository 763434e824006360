"""Peak memory of lists of different length, done by one process, or by Ray's, one for each processor.

    python benchmarks/many/memory.py [--photographs DIR] [--commands match extract eval]
        [--counts 100 1000 10000] [--engines local ray] [--preset fast]

Pairs are of 101 images of 96 pixels, and no pictures are written. Images to extract are as many names of those 101.
Pairs to evaluate are those images and two views of each, of half as many names (`--dataset warps`).
Peaks are those that Linux keeps of each process: of the command, and of the largest process that works for it.
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

from batch import TEAPOTS, list_of, photographs, some_pairs

from geomatch.options import EngineName, Preset

IMAGES, SIDE = 101, 96
SECONDS = 0.5
WORKER = "ray::"


def arguments_of(command: str, images: Sequence[Path], count: int, folder: Path) -> list[str]:
    """The words of a command whose list has ``count`` items, and that writes into ``folder``/out, if anywhere."""
    output = ["-o", str(folder / "out")]
    if command == "match":
        return ["match", "--no-pictures", "--pairs", str(list_of(some_pairs(images, count), folder)), *output]
    (names := folder / f"{command}-{count}").mkdir()
    for number in range(count if command == "extract" else -(-count // 2)):
        os.link(images[number % len(images)], names / f"{number:06}.jpg")
    if command == "extract":
        return ["extract", "--half", str(names), *output]
    return ["eval", "--dataset", "warps", "--root", str(names), "--limit", str(count)]


def peaks(arguments: Sequence[str]) -> tuple[float, float]:
    """Peak memory in MiB of a `geomatch` process, and of the largest of Ray's that work for it, 0 without one."""
    words = [sys.executable, "-m", "geomatch", *arguments]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    own = worker = 0.0
    while process.poll() is None:
        found = statuses()
        for each, status in found.items():
            if each == process.pid:
                own = max(own, peak(status))
            elif status["Name"].startswith(WORKER) and process.pid in parents(each, found):
                worker = max(worker, peak(status))
        time.sleep(SECONDS)
    if process.returncode:
        raise SystemExit(f"failed: {' '.join(words)}")
    return own, worker


def statuses() -> dict[int, dict[str, str]]:
    """What Linux says of each process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            lines = (folder / "status").read_text().splitlines()
        except OSError:  # it has ended meanwhile
            continue
        found[int(folder.name)] = dict(line.split(":\t", 1) for line in lines)
    return found


def parents(process: int, among: dict[int, dict[str, str]]) -> set[int]:
    """The process that started a process, and so on."""
    found: set[int] = set()
    while process in among:
        process = int(among[process]["PPid"])
        found.add(process)
    return found


def peak(status: dict[str, str]) -> float:
    return int(status.get("VmHWM", "0 kB").split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, default=TEAPOTS)
    parser.add_argument("--commands", nargs="+", choices=["match", "extract", "eval"], default=["match"])
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--engines", type=EngineName, nargs="+", default=list(EngineName))
    parser.add_argument("--preset", type=Preset, default=Preset.fast)
    given = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(folder / "out")  # predictions of `eval`
        (folder / "images").mkdir()
        images = photographs(given.photographs, folder / "images", IMAGES, SIDE)
        for command in given.commands:
            for count in given.counts:
                words = arguments_of(command, images, count, folder)
                for engine in given.engines:
                    more = ["--preset", given.preset.value, "--engine", engine.value]
                    own, worker = peaks([*words, *more])
                    shutil.rmtree(folder / "out")
                    workers = f", the largest of its workers {worker:.0f} MiB" if worker else ""
                    print(f"{command} of {count:,}, {engine.value}: {own:.0f} MiB{workers}", flush=True)


if __name__ == "__main__":
    main()
