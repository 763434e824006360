"""What a closer look at objects gains, with the boxes that are found and with true ones.

    python benchmarks/accuracy/zoom.py --dataset spair-71k --root SPair-71k [--preset default] [--limit 100]

PCK of the keypoints of validation pairs, protocol `geomatch`, per image: images as a whole, closer looks where the
classifier sees an object, and closer looks at the boxes that people have drawn, with the same margin. Also how many
images are looked at closer, and the mean IoU of the whole image, and of the box found, with the true box.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from geomatch.annotations import Box
from geomatch.correspondence import FeatureMap
from geomatch.datasets.load import load_dataset
from geomatch.datasets.pairs import AnnotatedPair, PairImage
from geomatch.evaluation.metrics.pck import box_side
from geomatch.features.zoom import ZoomedFeatures, found_box, view_around
from geomatch.geometry.boxes import box_iou
from geomatch.geometry.view import View
from geomatch.options import Preset
from geomatch.pipeline import Pipeline

ALPHAS = (0.05, 0.10, 0.15)
Views = tuple[View | None, View | None, View | None]


class Looks:
    """The features of an image, looked at as a whole, where the classifier says, and in its true box."""

    def __init__(self, extractor: ZoomedFeatures) -> None:
        self.extractor = extractor
        self.kept: dict[tuple[PairImage, Box], list[FeatureMap]] = {}
        self.ious: list[tuple[float, float]] = []

    def of(self, image: PairImage, true: Box) -> list[FeatureMap]:
        if (image, true) not in self.kept:
            pixels = image.load()
            overview = self.extractor.overview(pixels)
            size = overview.image_size
            whole = (-0.5, -0.5, size[1] - 0.5, size[0] - 0.5)
            box = found_box(overview, self.extractor.probability(overview))
            self.ious.append((_iou(whole, true), _iou(box or whole, true)))
            views = (None, None if box is None else view_around(box, size), view_around(true, size))
            self.kept[image, true] = self.extractor.look_closer([pixels] * 3, [overview] * 3, views)
        return self.kept[image, true]


def _iou(box: Box, other: Box) -> float:
    return float(box_iou(np.array([box]), np.array([other]))[0])


def errors(pipeline: Pipeline, pair: AnnotatedPair, source: FeatureMap, target: FeatureMap) -> NDArray[np.float64]:
    """Distances (K,) of the keypoints found from the true ones, as shares of the target's object."""
    assert pair.target_box is not None
    found = pipeline.match(source, target).map_points(pair.source_points).positions
    return np.asarray(np.linalg.norm(found - pair.target_points, axis=1) / box_side(pair.target_box, np.ones(2)))


def pck(of_pairs: Sequence[NDArray[np.float64]]) -> str:
    return " / ".join(f"{np.mean([np.mean(each <= alpha) for each in of_pairs]):.3f}"[1:] for alpha in ALPHAS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--preset", type=Preset, default=Preset.default)
    parser.add_argument("--limit", type=int, default=10**6, help="pairs")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    pipeline = Pipeline(preset=arguments.preset, zoom="on", device="cpu")
    assert isinstance(pipeline.extractor, ZoomedFeatures)
    looks = Looks(pipeline.extractor)
    ways: dict[str, list[NDArray[np.float64]]] = {"the whole image": [], "boxes found": [], "true boxes": []}
    for pair in load_dataset(arguments.dataset, arguments.root, split="val").pairs[: arguments.limit]:
        assert pair.source_box is not None
        assert pair.target_box is not None
        sources, targets = looks.of(pair.source, pair.source_box), looks.of(pair.target, pair.target_box)
        for way, source, target in zip(ways.values(), sources, targets, strict=True):
            way.append(errors(pipeline, pair, source, target))

    table = Table("looked at", "PCK@.05 / .10 / .15", "images closer", "IoU with the true box")
    closer = np.array([[each.view is not None for each in maps] for maps in looks.kept.values()]).mean(axis=0)
    ious = (*(f"{iou:.3f}" for iou in np.mean(looks.ious, axis=0)), "1")
    for (name, of_pairs), share, iou in zip(ways.items(), closer, ious, strict=True):
        table.add_row(name, pck(of_pairs), f"{share:.2f}", iou)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
