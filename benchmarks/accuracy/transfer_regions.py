"""Accuracy of masks and boxes transferred from k photographs of the same species, beside what no match gives.

    python benchmarks/accuracy/transfer_regions.py --animals SPair-71k                    # boxes
    python benchmarks/accuracy/transfer_regions.py --animals animal-parts --train train   # masks and boxes

Targets are the images of a folder in SPair's layout. References are, with --train, --pool random photographs of the
target's species in `train/keypoints.json`; without it all other images of the folder, and boxes alone. From the k that
are most similar as a whole, regions are transferred and fused as `geomatch transfer` does.

The data have no masks. Masks are convex polygons round keypoints: "head", round both eyes, both ears and the nose;
"animal", round all, of animals with at least 14 of the 20. A reference has both; targets are scored for what they have.
IoU is that with the target's own polygon or object box.

"pasted" is the same without a match: each reference is scaled to the target. "whole" is all of the target. "sure half"
is the half with the highest confidence. With --held-out N the targets are N other photographs of each species of
--train, on which settings may be chosen.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transfer import Animal, around, overlap, read_animals, spread
from transfer_references import drawn, read_singles

from geomatch.annotations import Box, Instance, Keypoints, Region
from geomatch.correspondence import Correspondence, FeatureMap
from geomatch.evaluation.metrics.dense import intersection_over_union
from geomatch.io.annotations.polygons import fill
from geomatch.io.images import load_image
from geomatch.options import Mirror
from geomatch.pipeline import Pipeline
from geomatch.transfer.references.evidence import image_descriptor
from geomatch.transfer.references.regions import SMOOTHING, fuse_boxes, fuse_masks

HEAD = frozenset("01234")
"""The places of both eyes, the nose and both ears among the names of the keypoints."""
FEWEST_OF_ANIMAL = 14
"""Keypoints that a polygon round the whole animal needs."""


@dataclass(frozen=True)
class Photograph:
    """An animal and its features."""

    animal: Animal
    features: FeatureMap

    @cached_property
    def regions(self) -> Mapping[str, Region | Box]:
        """What is marked, by name."""
        points, size = self.animal.points, self.features.image_size
        regions: dict[str, Region | Box] = {"box": self.animal.box}
        if points.keys() >= HEAD:
            regions["head"] = Region(fill([around(np.stack([points[name] for name in sorted(HEAD)]))], size))
        if len(points) >= FEWEST_OF_ANIMAL:
            regions["animal"] = Region(fill([around(np.stack(list(points.values())))], size))
        return regions


@dataclass(frozen=True)
class Score:
    """Of a region of a target from k references: IoU, that of the pasted one and of the whole image, confidence."""

    iou: float
    pasted: float
    whole: float
    confidence: float


def read_train(train: Path, folder: Path) -> dict[str, list[Animal]]:
    """The photographs of a single animal that is marked well enough, by species, in random order."""
    references = read_singles(train, folder)
    document = json.loads((folder / "references.json").read_text())
    files = {each["id"]: folder / each["file_name"] for each in document["images"]}
    boxes = {files[each["image_id"]]: each["bbox"] for each in document["annotations"] if each["image_id"] in files}
    animals: dict[str, list[Animal]] = defaultdict(list)
    for image in drawn(references, 0, 0, None).images:
        (instance,) = image.instances
        assert isinstance(instance.shape, Keypoints), "the references mark keypoints"
        present = np.flatnonzero(instance.shape.present)
        points = {str(place): instance.shape.points[place] for place in present}
        left, top, width, height = boxes[Path(image.name)]
        box = left - 0.5, top - 0.5, left + width - 0.5, top + height - 0.5
        if points.keys() >= HEAD and len(points) >= FEWEST_OF_ANIMAL:
            animals[instance.label].append(Animal(Path(image.name), instance.label, box, points))
    return animals


def unmatched(source_size: tuple[int, int], target_size: tuple[int, int]) -> Correspondence:
    """Every pixel at the same place, relative to the sides, with confidence 1."""
    scale = np.array(target_size) / source_size
    row, column = np.mgrid[: source_size[0], : source_size[1]]
    flow = np.stack([(column + 0.5) * scale[1] - 0.5 - column, (row + 0.5) * scale[0] - 0.5 - row])
    every = torch.ones(source_size)
    return Correspondence(torch.from_numpy(flow).float(), every, every.bool(), source_size, target_size)


def fused(
    name: str, found: Sequence[tuple[Photograph, Correspondence]], smoothing: float
) -> tuple[Region | Box, float] | None:
    """A region that references put on a target, and its confidence. smoothing: of masks, see `fuse_masks`."""
    parts = [([Instance(name, 1, reference.regions[name])], flow) for reference, flow in found]
    example = found[0][0].regions[name]
    return fuse_masks(example, parts, smoothing) if isinstance(example, Region) else fuse_boxes(parts)


def iou(shape: Region | Box, truth: Region | Box) -> float:
    if isinstance(shape, Region) and isinstance(truth, Region):
        return intersection_over_union(shape.mask, truth.mask)
    assert isinstance(shape, tuple), "a box"
    assert isinstance(truth, tuple), "a box, as the shape"
    return overlap(shape, truth)


def whole(truth: Region | Box, size: tuple[int, int]) -> Region | Box:
    """All of an image of ``size`` (height, width), as a region of the same kind."""
    return Region(np.ones(size, bool)) if isinstance(truth, Region) else (-0.5, -0.5, size[1] - 0.5, size[0] - 0.5)


def match_similar(
    pipeline: Pipeline, target: Photograph, references: Sequence[Photograph], count: int
) -> list[tuple[Photograph, Correspondence]]:
    """The ``count`` references that are most similar as a whole, and the flows of the target to them."""
    described = torch.stack([image_descriptor(each.features) for each in references])
    order = (described @ image_descriptor(target.features)).argsort(descending=True, stable=True)
    chosen = [references[place] for place in order[:count]]
    return [(each, pipeline.match(target.features, each.features)) for each in chosen]


def score(
    target: Photograph, found: Sequence[tuple[Photograph, Correspondence]], smoothing: float = SMOOTHING
) -> dict[str, Score]:
    """The scores of each region that the target and all references have."""
    size = target.features.image_size
    pasted = [(reference, unmatched(size, reference.features.image_size)) for reference, _ in found]
    scores = {}
    for name, truth in target.regions.items():
        if all(name in reference.regions for reference, _ in found):
            matched, unmoved = fused(name, found, smoothing), fused(name, pasted, smoothing)
            right, by_chance = (iou(each[0], truth) if each else 0.0 for each in (matched, unmoved))
            everything = iou(whole(truth, size), truth)
            scores[name] = Score(right, by_chance, everything, matched[1] if matched else 0.0)
    return scores


def columns(scores: Sequence[Score]) -> list[str]:
    found, pasted, everything, confidence = (
        np.array([getattr(each, name) for each in scores]) for name in ("iou", "pasted", "whole", "confidence")
    )
    half: NDArray[np.bool_] = confidence >= np.median(confidence)
    values = found.mean(), (found >= 0.5).mean(), found[half].mean(), pasted.mean(), everything.mean()
    return [str(len(scores)), *(f"{value:.3f}" for value in values)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--animals", type=Path, required=True, metavar="DIR")
    parser.add_argument("--train", type=Path, metavar="DIR")
    parser.add_argument("--pool", type=int, default=20, metavar="N", help="references of each species, of --train")
    parser.add_argument("--references", type=int, nargs="+", default=[1, 3, 5], metavar="K")
    parser.add_argument("--targets", type=int, default=0, metavar="N", help="of each species; 0: all")
    parser.add_argument("--held-out", type=int, default=0, metavar="N")
    parser.add_argument("--smoothing", type=float, default=SMOOTHING, metavar="SHARE", help="of masks; 0: none")
    parser.add_argument("--cache", type=Path, metavar="DIR")
    options = parser.parse_args()

    pipeline = Pipeline(cache=options.cache, zoom="off")  # as `geomatch transfer`
    scores: dict[tuple[str, int], list[Score]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for target, references in track(pairings(pipeline, options, Path(folder)), console=Console(stderr=True)):
            found = match_similar(pipeline, target, references, max(options.references))
            for count in options.references:
                for name, each in score(target, found[:count], options.smoothing).items():
                    scores[name, count].append(each)
    table = Table()
    for column in ("region", "k", "targets", "IoU", "IoU ≥ .5", "sure half", "pasted", "whole"):
        table.add_column(column, justify="left" if column == "region" else "right")
    for (name, count), found_scores in sorted(scores.items()):
        table.add_row(name, str(count), *columns(found_scores))
    Console(width=120).print(table)


def pairings(
    pipeline: Pipeline, options: argparse.Namespace, folder: Path
) -> list[tuple[Photograph, list[Photograph]]]:
    """Each target and the references that it may have."""

    def references(animals: Sequence[Animal]) -> list[Photograph]:
        return [Photograph(each, pipeline.extract(load_image(each.file), Mirror.off)) for each in animals]

    def target(animal: Animal) -> Photograph:
        return Photograph(animal, pipeline.extract(load_image(animal.file)))

    pooled = read_train(options.train, folder) if options.train else {}
    pairs: list[tuple[Photograph, list[Photograph]]] = []
    for kind, animals in read_animals(options.animals).items():
        if options.train:
            first, others = pooled[kind][: options.pool], pooled[kind][options.pool :]
            known = references(first)
            chosen = others[: options.held_out] or spread(animals, options.targets)
            pairs += [(target(each), known) for each in chosen]
        elif len(animals) > max(options.references):
            unnamed = [replace(each, points={}) for each in animals]  # only pairs say which points are the same
            known = references(unnamed)
            for each in spread(unnamed, options.targets):
                place = unnamed.index(each)
                pairs.append((target(each), known[:place] + known[place + 1 :]))
    return pairs


if __name__ == "__main__":
    main()
