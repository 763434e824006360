"""Time of `geomatch transfer` with images in parallel and one after the other: from reading to drawing.

    python benchmarks/many/transfer_many.py [--photographs DIR] [--images 40] [--side 500]
        [--preset default] [--rounds 3]

A mask is transferred from the first image to all others, into a label image each and a picture to review, in one
process and in turn. Where other work shares the machine, trust the processor's seconds. On one core
nothing can overlap.

    python benchmarks/many/transfer_many.py --references 20 [--k 5] [--targets 60] [--kind masks|keypoints]

From many references instead, which are extracted before: the ideal extracts each target, whose pixels are in memory,
and matches it with k references. The transfer also reads images, chooses and fuses references, writes labelme files and
draws pictures to review. The ideal does one half of the targets before the transfer and one after it. Memory is the
largest that this process occupies after any target of the first half, and of the second.
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
from torch import Tensor

from geomatch.annotations import (
    AnnotatedImage,
    Annotations,
    Instance,
    Region,
    Target,
    categories_of,
    named_keypoints,
)
from geomatch.features.weights import sha256_of
from geomatch.io.annotations.files import AnnotationOutput, open_output
from geomatch.io.annotations.records import annotation_record
from geomatch.io.images import load_image
from geomatch.options import AnnotationFormat, AnnotationKind, Existing, Preset
from geomatch.pipeline import Pipeline
from geomatch.runtime.engines.engine import LocalEngine
from geomatch.runtime.shard import Shard
from geomatch.transfer.manifest import Manifest
from geomatch.transfer.outputs import TransferOutputs
from geomatch.transfer.references.reference_set import ReferenceSet
from geomatch.transfer.references.transfer import ReferenceChoice, ReferenceTransfer
from geomatch.transfer.review import Review, open_review
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


def marked_images(images: Sequence[Path], kind: AnnotationKind) -> ReferenceSet:
    """The images, with the middle of each marked: as a mask, or by six keypoints of a grid."""
    annotated = []
    for path in images:
        height, width = size = load_image(path).shape[1:]
        if kind is AnnotationKind.masks:
            mask = np.zeros(size, bool)
            mask[height // 4 : -height // 4, width // 4 : -width // 4] = True
            instance = Instance("middle", 1, Region(mask))
        else:
            places = [(x * width, y * height) for y in (0.4, 0.6) for x in (0.3, 0.5, 0.7)]
            instance = Instance("middle", 1, named_keypoints([f"p{number}" for number in range(6)], np.array(places)))
        annotated.append(AnnotatedImage(str(path), (height, width), [instance]))
    common = annotated[0].instances
    annotations = Annotations(common, AnnotationFormat.labelme, categories_of(common))
    return ReferenceSet(kind, annotated, [sha256_of(path) for path in images], annotations, "")


def measure_many(
    images: Sequence[Path], pipeline: Pipeline, folder: Path, given: argparse.Namespace
) -> tuple[list[Cost], list[Cost], list[float]]:
    """The costs of the ideal of each target, that of the transfer, and MiB occupied after each of its targets."""
    references = marked_images(images[: given.references], given.kind)
    transfer = ReferenceTransfer(pipeline, references, ReferenceChoice(given.k))
    sources = [pipeline.extract(load_image(path)) for path in images[: given.k]]
    targets = name_targets(images[given.references :])
    marks, share = references.annotations, Shard()
    output = open_output(folder / "out", marks.format, given.kind, marks, targets, existing=Existing.refused)
    review = open_review(folder / "look", references, share, Existing.refused)
    outputs, occupied = TransferOutputs(output, Manifest({}, Existing.refused), review), list[float]()

    def ideal_one(pixels: Tensor) -> None:
        features = pipeline.extract(pixels)
        for source in sources:
            pipeline.match(features, source)

    def ideal(some: Sequence[Target]) -> list[Cost]:
        return [timed(partial(ideal_one, load_image(target.image))) for target in some]

    def real() -> None:
        for finished in transfer_many(targets, TransferJob(lambda: transfer, outputs), LocalEngine()):
            if finished.failed:
                raise SystemExit(f"failed: {finished.record}")
            occupied.append(resident_memory())

    ideal(targets[:1])  # what is done the first time only
    before, whole, after = ideal(targets[::2]), timed(real), ideal(targets[1::2])
    return before + after, [whole], occupied


def resident_memory() -> float:
    """MiB that this process occupies."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def print_many(console: Console, given: argparse.Namespace, folder: Path) -> None:
    images = photographs(given.photographs, folder / "images", given.references + given.targets, given.side)
    ideal, real, occupied = measure_many(images, _pipeline(given), folder, given)
    title = (
        f"{given.kind}, {given.targets} targets, {given.references} references, k = {given.k}, preset {given.preset}"
    )
    table = table_of(title, "seconds", "processor seconds")
    for name, costs in (("ideal", ideal), ("transfer", real)):
        table.add_row(name, *(f"{sum(map(attrgetter(what), costs)):.2f}" for what in ("clock", "processor")))
    console.print(table)
    shares = [sum(map(attrgetter(what), ideal)) / sum(map(attrgetter(what), real)) for what in ("clock", "processor")]
    half = len(occupied) // 2
    console.print(
        f"of the ideal: {shares[0]:.2f} by the clock, {shares[1]:.2f} by processor seconds; "
        f"MiB occupied: {max(occupied[:half]):.0f} in the first half, {max(occupied[half:]):.0f} in the second"
    )


def _pipeline(given: argparse.Namespace) -> Pipeline:
    return Pipeline(preset=given.preset, zoom="off")  # as `geomatch transfer`


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, default=TEAPOTS)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--side", type=int, default=500)
    parser.add_argument("--preset", type=Preset, default=Preset.default)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--references", type=int, default=0)
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--targets", type=int, default=60)
    parser.add_argument("--kind", type=AnnotationKind, default=AnnotationKind.masks)
    given = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        if given.references:
            print_many(Console(width=120), given, folder)
            return
        images = photographs(given.photographs, folder / "images", given.images + 1, given.side)
        costs = measure(images, _pipeline(given), folder, given.rounds)
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
