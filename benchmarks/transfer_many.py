"""Time of `geomatch transfer` with images in parallel and one after the other: from reading to drawing.

    python benchmarks/transfer_many.py [--photographs DIR] [--images 40] [--side 500] [--preset default] [--rounds 3]

A mask is transferred from the first image to all others, into a label image each and a picture to review, in one
process and in turn. Where other work shares the machine, trust the processor's seconds. On one core
nothing can overlap.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path

import numpy as np
from batch import TEAPOTS, Cost, photographs, table_of, timed
from rich.console import Console

from geomatch.annotations import AnnotatedImage, Annotations, Instance, Region, Target, categories_of
from geomatch.io.annotations.files import AnnotationOutput, open_output
from geomatch.io.annotations.records import annotation_record
from geomatch.io.images import load_image
from geomatch.options import AnnotationFormat, AnnotationKind, Existing, Preset
from geomatch.pipeline import Pipeline
from geomatch.runtime.engines.engine import LocalEngine
from geomatch.transfer.outputs import TransferOutputs
from geomatch.transfer.review import Review
from geomatch.transfer.transfer import InstanceTransfer
from geomatch.transfer.transfer_many import TransferJob, name_targets, transfer_many

Way = Callable[[Sequence[Target], InstanceTransfer, AnnotationOutput, Review], None]


def in_sequence(
    targets: Sequence[Target], transfer: InstanceTransfer, output: AnnotationOutput, review: Review
) -> None:
    for target in targets:
        pixels = load_image(target.image)
        found = AnnotatedImage(str(target.image), (pixels.shape[1], pixels.shape[2]), transfer(pixels))
        annotation_record(found)
        output.add(target, found)
        review.add(target, pixels, found)
    review.close()


def in_parallel(
    targets: Sequence[Target], transfer: InstanceTransfer, output: AnnotationOutput, review: Review
) -> None:
    job = TransferJob(lambda: transfer, TransferOutputs(output, None, review))
    for finished in transfer_many(targets, job, LocalEngine()):
        if finished.failed:
            raise SystemExit(f"failed: {finished.record}")


WAYS: Mapping[str, Way] = {"in sequence": in_sequence, "in parallel": in_parallel}


def measure(images: Sequence[Path], pipeline: Pipeline, folder: Path, rounds: int) -> dict[str, list[Cost]]:
    """The cost of each round by each way."""
    pixels = load_image(images[0])
    height, width = size = (pixels.shape[1], pixels.shape[2])
    mask = np.zeros(size, bool)
    mask[height // 4 : -height // 4, width // 4 : -width // 4] = True
    instances, kind = [Instance("1", 1, Region(mask))], AnnotationKind.masks
    marked = Annotations(instances, AnnotationFormat.png, categories_of(instances))
    drawn = AnnotatedImage("reference", size, instances)
    transfer = InstanceTransfer(pipeline, pipeline.extract(pixels), instances, kind)
    transfer(pixels)  # what is done the first time only
    targets = name_targets(images[1:])
    costs: dict[str, list[Cost]] = {name: [] for name in WAYS}
    for number in range(rounds):
        for name, way in WAYS.items():
            place = folder / f"{name} {number}"
            output = open_output(place, marked.format, kind, marked, targets, existing=Existing.refused)
            review = Review(folder / f"{name} {number} drawn", marked, kind, (pixels, drawn))
            costs[name].append(timed(partial(way, targets, transfer, output, review)))
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, default=TEAPOTS)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--side", type=int, default=500)
    parser.add_argument("--preset", type=Preset, default=Preset.default)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        images = photographs(given.photographs, folder / "images", given.images + 1, given.side)
        costs = measure(images, Pipeline(preset=given.preset), folder, given.rounds)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    title = f"{given.images} images of {given.side} pixels, preset {given.preset}, cores: {cores}"
    table = table_of(title, "seconds", "processor seconds")
    for way, each in costs.items():
        table.add_row(
            way, *(f"{statistics.median(map(attrgetter(what), each)):.2f}" for what in ("clock", "processor"))
        )
    console = Console(width=120)
    console.print(table)
    ratios = [one.clock / many.clock for one, many in zip(*costs.values(), strict=True)]
    console.print(f"in parallel is {statistics.median(ratios):.2f} times as fast by the clock")


if __name__ == "__main__":
    main()
