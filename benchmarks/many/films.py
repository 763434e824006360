"""Time and memory of reading the frames of films: all of their names, few frames far apart, every 50th, each.

    python benchmarks/many/films.py [--photographs DIR] [--frames 2000 20000] [--size 320 240] [--cut 100]
        [--codec libx264]

A film, which PyAV (`pip install 'geomatch[video]'`) makes in a temporary folder, pans over photographs; the next one
comes after --cut frames. It is H.264 with PyAV's settings, so that a key frame comes with each photograph, and after
250 frames at the latest. Each film is made and read in a process of its own. Memory is how much more it occupied, at
the most, than before it read the film.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import av
import numpy as np
from batch import TEAPOTS, photographs, table_of, timed
from PIL import Image
from rich.console import Console

from geomatch.io.formats.films import frame_names, read_frame

STEP = 50


def pans(images: Sequence[Path], count: int, size: tuple[int, int], cut: int) -> Iterator[Image.Image]:
    """Pictures of a size (width, height): a window that moves over one photograph after the other."""
    width, height = size
    for number in range(count):
        shot, moment = divmod(number, cut)
        if not moment:
            with Image.open(images[shot % len(images)]) as image:
                large = image.convert("RGB").resize((width * 5 // 4, height * 5 // 4))
        left, top = (moment * (have - need) // cut for have, need in zip(large.size, size, strict=True))
        yield large.crop((left, top, left + width, top + height))


def write_film(path: Path, images: Sequence[Path], count: int, given: argparse.Namespace) -> None:
    size = (given.size[0], given.size[1])
    with av.open(str(path), "w") as container:
        stream = container.add_stream(given.codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for picture in pans(images, count, size, given.cut):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")))
        container.mux(stream.encode())


def measure(film: Path, count: int) -> Mapping[str, float]:
    """Processor seconds of each way to read a film of so many frames, and MiB more than before."""

    def read(numbers: Iterable[int]) -> None:
        for number in numbers:
            read_frame(film, number)

    def names() -> None:
        frame_names(film)

    ways = {
        "names": names,
        "20 frames at random": lambda: read(random.Random(0).sample(range(count), 20)),
        f"every {STEP}th": lambda: read(range(0, count, STEP)),
        "each": lambda: read(range(count)),
    }
    before = peak()
    costs = {name: timed(work).processor for name, work in ways.items()}
    return {**costs, "MiB": peak() - before}


def peak() -> float:
    """MiB that this process has occupied at the most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, default=TEAPOTS)
    parser.add_argument("--frames", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--size", type=int, nargs=2, default=[320, 240], metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--cut", type=int, default=100)
    parser.add_argument("--codec", default="libx264")
    given = parser.parse_args()

    measured = dict[int, Mapping[str, float]]()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name, ProcessPoolExecutor(1, spawn, max_tasks_per_child=1) as process:
        images = photographs(given.photographs, Path(name), 100, max(given.size))
        film = Path(name) / "film.mp4"
        for count in given.frames:
            process.submit(write_film, film, images, count, given).result()
            measured[count] = process.submit(measure, film, count).result()
    columns = next(iter(measured.values()))
    table = table_of("films of {} x {} pixels, {}; processor seconds".format(*given.size, given.codec), *columns)
    for count, costs in measured.items():
        table.add_row(
            f"{count} frames", *(f"{cost:.0f}" if name == "MiB" else f"{cost:.2f}" for name, cost in costs.items())
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
