"""Processor time and size of the pictures of a match, by the level of `--png-level` and as Pillow writes them.

    python benchmarks/speed/pictures.py [--rounds 7]

The pictures are those of the two teapots, 480 x 360 pixels, preset fast; overview.png has 2,231 x 382. The ways take
turns; the times are the least of the rounds.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from command import TEAPOTS
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from geomatch.io.formats.png import encode_png
from geomatch.io.images import load_image
from geomatch.options import DEFAULT_PICTURES
from geomatch.pipeline import Pipeline
from geomatch.result import picture_files

PICTURES = tuple(f"{name}.png" for name in DEFAULT_PICTURES)
RUN_LENGTHS = 3  # of zlib's strategies


def by_pillow(pixels: NDArray[Any], **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


WAYS: dict[str, Callable[[NDArray[Any]], bytes]] = {
    **{f"--png-level {level}": partial(encode_png, level=level) for level in (0, 1, 2, 6, 9)},
    "Pillow, run lengths": lambda pixels: by_pillow(pixels, compress_type=RUN_LENGTHS),
    "Pillow, level 1": lambda pixels: by_pillow(pixels, compress_level=1),
    "Pillow, its default": by_pillow,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()

    source, target = (load_image(TEAPOTS / f"{name}.png") for name in ("a", "b"))
    files = picture_files(source, target, Pipeline(preset="fast").match(source, target))
    pixels = {name: np.asarray(Image.open(io.BytesIO(content))) for name, content in files.items()}
    seconds: dict[tuple[str, str], list[float]] = {(way, name): [] for way in WAYS for name in pixels}
    sizes = {}
    for _ in range(options.rounds):
        for (way, name), times in seconds.items():
            began = time.process_time()
            sizes[way, name] = len(WAYS[way](pixels[name]))
            times.append(time.process_time() - began)
    table = Table(title="processor time, ms; size, kB")
    for column in ("", *PICTURES, "all"):
        table.add_column(column, justify="right" if column else "left")
    for way in WAYS:
        cells = [(1e3 * min(seconds[way, name]), sizes[way, name] / 1e3) for name in PICTURES]
        cells.append((sum(cell[0] for cell in cells), sum(cell[1] for cell in cells)))
        table.add_row(way, *(f"{milliseconds:.1f}; {size:,.0f}" for milliseconds, size in cells))
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
