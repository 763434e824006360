"""Accuracy of keypoints transferred from images that `geomatch suggest` lists, and from images drawn at random.

    python benchmarks/suggest.py --train train --cache DIR [--category dog] [--counts 5 10 20] [--draws 10]

Of the photographs of `train/keypoints.json` that show one animal of a category, in random order, the first two thirds
may be annotated; the last third are the targets. So many of the former are suggested from nothing, drawn at random
--draws times, or chosen farthest first (k-centre), and transferred to the targets as `geomatch transfer` does. PCK@.10:
of all keypoints of the targets, those with an error of at most a tenth of the longer side of the keypoints' extent.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
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


def accuracy(
    pipeline: Pipeline, references: ReferenceSet, targets: Sequence[AnnotatedImage], features: Sequence[FeatureMap]
) -> float:
    """PCK@.10 of all keypoints of the targets; one that no reference has is wrong."""
    transfer = ReferenceTransfer(pipeline, references)
    (template,) = references.annotations.instances
    right = asked = 0
    for image, own in zip(targets, features, strict=True):
        shape = image.instances[0].shape
        assert isinstance(shape, Keypoints), "keypoints are read"
        truth = np.where(shape.present[:, None], shape.points, np.nan)
        animal = Animal(Path(image.name), image.instances[0].label, shape.extent)
        _, found = transfer.find_keypoints(template, own)
        right += int((is_right(found.positions, truth, animal) & found.known).sum())
        asked += int(shape.present.sum())
    return right / asked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--category", default="dog")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--counts", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--features")
    parser.add_argument("--preset", type=Preset, default=Preset.fast)
    given = parser.parse_args()

    pipeline = Pipeline(features=given.features, preset=given.preset, cache=given.cache)
    with tempfile.TemporaryDirectory() as name:
        read = read_singles(given.train, Path(name))
        images = [image for image in read.images if image.instances[0].label == given.category]
        order = np.random.default_rng(0).permutation(len(images))[: given.images]
        images = [images[place] for place in order]
        features = [pipeline.extract(load_image(Path(each.name)), Mirror.off) for each in track(images, "extracting")]
        split = 2 * len(images) // 3
        descriptors = torch.stack([image_descriptor(each) for each in features[:split]])
        marks = replace(
            read.annotations,
            instances=[each for each in read.annotations.instances if each.label == given.category],
        )

        def score(places: Sequence[int]) -> float:
            references = replace(read, images=[images[place] for place in places], annotations=marks)
            return accuracy(pipeline, references, images[split:], features[split:])

        table = Table("annotated", "suggested", "random", "sd", "farthest first", title=f"{given.category}, PCK@.10")
        for count in given.counts:
            draws = [np.random.default_rng(seed).permutation(split)[:count].tolist() for seed in range(given.draws)]
            chance = [score(draw) for draw in track(draws, f"random {count}")]
            mine = score([each.place for each in suggest(descriptors, count)])
            values = (mine, float(np.mean(chance)), float(np.std(chance)), score(farthest_first(descriptors, count)))
            table.add_row(str(count), *(f"{value:.3f}" for value in values))
    Console().print(table)


if __name__ == "__main__":
    main()
