"""Accuracy of keypoints transferred from images that `geomatch suggest` lists, and from images drawn at random.

    python benchmarks/accuracy/suggest.py --train train --cache DIR [--category dog] [--counts 5 10 20] [--draws 10]

Of the photographs of `train/keypoints.json` that show one animal of a category, in random order, the first two thirds
may be annotated; the last third are the targets. So many of the former are suggested from nothing, drawn at random
--draws times, or chosen farthest first (k-centre), and transferred to the targets as `geomatch transfer` does. PCK@.10:
of all keypoints of the targets, those with an error of at most a tenth of the longer side of the keypoints' extent.

--beside N: the images that are suggested, or drawn at random, beside N that are annotated already, which are drawn at
random as often; and those on which transfer from these is the least sure.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from transfer import Animal
from transfer_references import is_right, read_singles

from geomatch.annotations import AnnotatedImage, Keypoints
from geomatch.correspondence import FeatureMap
from geomatch.io.images import load_image
from geomatch.options import Mirror, Preset
from geomatch.pipeline import Pipeline
from geomatch.transfer.references.evidence import image_descriptor
from geomatch.transfer.references.reference_set import ReferenceSet
from geomatch.transfer.references.transfer import ReferenceTransfer
from geomatch.transfer.suggest import suggest


def farthest_first(descriptors: Tensor, count: int) -> list[int]:
    """The most typical image, then each time the one whose most similar chosen image is the least similar."""
    similarity = descriptors @ descriptors.mT
    chosen = [int(similarity.mean(dim=1).argmax())]
    while len(chosen) < count:
        nearest = similarity[:, chosen].amax(dim=1)
        nearest[chosen] = 2
        chosen.append(int(nearest.argmin()))
    return chosen


@dataclass(frozen=True)
class Collection:
    """Photographs of one category: the first ``split`` may be annotated, the others are targets.

    read: all that are annotated. images, features: those of the category, in random order.
    """

    pipeline: Pipeline
    read: ReferenceSet
    images: Sequence[AnnotatedImage]
    features: Sequence[FeatureMap]
    split: int

    def transfer_from(self, places: Sequence[int]) -> ReferenceTransfer:
        label = self.images[0].instances[0].label
        instances = [each for each in self.read.annotations.instances if each.label == label]
        marks = replace(self.read.annotations, instances=instances)
        images = [self.images[place] for place in places]
        return ReferenceTransfer(self.pipeline, replace(self.read, images=images, annotations=marks))

    def score(self, places: Sequence[int]) -> float:
        """PCK@.10 of all keypoints of the targets; one that no reference has is wrong."""
        transfer = self.transfer_from(places)
        (template,) = transfer.references.annotations.instances
        right = asked = 0
        for image, features in zip(self.images[self.split :], self.features[self.split :], strict=True):
            shape = image.instances[0].shape
            assert isinstance(shape, Keypoints), "keypoints are read"
            truth = np.where(shape.present[:, None], shape.points, np.nan)
            animal = Animal(Path(image.name), image.instances[0].label, shape.extent)
            _, found = transfer.find_keypoints(template, features, transfer.rank(features))
            right += int((is_right(found.positions, truth, animal) & found.known).sum())
            asked += int(shape.present.sum())
        return right / asked


def from_nothing(photographs: Collection, counts: Sequence[int], draws: int) -> Table:
    """PCK from so many images, by how they are chosen."""
    table = Table("annotated", "suggested", "random", "sd", "farthest first")
    descriptors = torch.stack([image_descriptor(each) for each in photographs.features[: photographs.split]])
    for count in counts:
        orders = [np.random.default_rng(seed).permutation(photographs.split)[:count].tolist() for seed in range(draws)]
        chance = [photographs.score(order) for order in track(orders, f"random {count}")]
        suggested = photographs.score([each.place for each in suggest(descriptors, count)])
        farthest = photographs.score(farthest_first(descriptors, count))
        values = (suggested, np.mean(chance), np.std(chance), farthest)
        table.add_row(str(count), *(f"{value:.3f}" for value in values))
    return table


def beside_others(photographs: Collection, beside: int, counts: Sequence[int], draws: int) -> Table:
    """The mean PCK from so many more images than those ``beside`` them, which are drawn at random."""
    table = Table("more", "suggested", "random", "least sure")
    descriptors = torch.stack([image_descriptor(each) for each in photographs.features[: photographs.split]])
    scores: dict[int, list[list[float]]] = {count: [] for count in counts}
    for seed in track(range(draws), f"beside {beside}"):
        order = np.random.default_rng(seed).permutation(photographs.split).tolist()
        known, others = order[:beside], sorted(order[beside:])
        transfer = photographs.transfer_from(known)
        found = (transfer(load_image(Path(photographs.images[place].name))) for place in others)
        sure = [AnnotatedImage("", (1, 1), instances).confidence for instances in found]
        for count in counts:
            ways = (
                [each.place for each in suggest(descriptors[others], count, descriptors[known])],
                np.random.default_rng(seed).permutation(len(others))[:count].tolist(),
                np.argsort(sure, kind="stable")[:count].tolist(),
            )
            scores[count].append([photographs.score([*known, *(others[each] for each in way)]) for way in ways])
    for count, rows in scores.items():
        table.add_row(str(count), *(f"{value:.3f}" for value in np.mean(rows, axis=0)))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--category", default="dog")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--counts", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--beside", type=int, default=0, metavar="N")
    parser.add_argument("--features")
    parser.add_argument("--preset", type=Preset, default=Preset.fast)
    given = parser.parse_args()

    pipeline = Pipeline(features=given.features, preset=given.preset, cache=given.cache, zoom="off")
    with tempfile.TemporaryDirectory() as name:
        read = read_singles(given.train, Path(name))
        images = [image for image in read.images if image.instances[0].label == given.category]
        images = [images[place] for place in np.random.default_rng(0).permutation(len(images))[: given.images]]
        features = [pipeline.extract(load_image(Path(each.name)), Mirror.off) for each in track(images, "extracting")]
        photographs = Collection(pipeline, read, images, features, 2 * len(images) // 3)
        if given.beside:
            table = beside_others(photographs, given.beside, given.counts, given.draws)
        else:
            table = from_nothing(photographs, given.counts, given.draws)
    table.title = f"{given.category}, PCK@.10" + (f", beside {given.beside}" if given.beside else "")
    Console().print(table)


if __name__ == "__main__":
    main()
