"""How good the boxes of Proposal Flow can be: the upper bound of region matching, by where the boxes come from.

    python benchmarks/accuracy/proposals.py --root PF-dataset [--dataset pf-willow] [--pairs 20]

Boxes: sliding windows, random boxes, selective search (OpenCV's fast mode), and the full search of the releases of
Proposal Flow and SCNet. Columns: boxes that an image has, at most 1,000; the share of them that are narrower than 20
of 300 pixels; how many are valid, that is on the object; the area under PCR if each of these were matched to the best
box of the target; seconds of the processor for an image.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from geomatch.datasets.load import load_dataset
from geomatch.datasets.pairs import AnnotatedPair, PairImage
from geomatch.evaluation.metrics.regions import (
    REGION_THRESHOLDS,
    area_under_curve,
    best_iou,
    probability_of_correct_regions,
)
from geomatch.geometry.boxes import Boxes, valid_boxes, warp_boxes
from geomatch.geometry.thin_plate_spline import ThinPlateSpline
from geomatch.matching.proposal_flow.proposals import inside_border, sliding_windows, thinned, uniform_boxes
from geomatch.matching.proposal_flow.selective_search import full_selective_search, selective_search

MOST, NARROW = 1000, 20 / 300

KINDS: dict[str, Callable[[Tensor], Boxes]] = {
    "sliding windows": lambda image: sliding_windows(image.shape[1:]),  # type: ignore[arg-type]
    "random": lambda image: uniform_boxes(image.shape[1:], MOST, seed=0),  # type: ignore[arg-type]
    "selective search": selective_search,
    "full selective search": full_selective_search,
}


class Searched:
    """The boxes of images, each searched once, and the time that it took."""

    def __init__(self, search: Callable[[Tensor], Boxes]) -> None:
        self.search = search
        self.found: dict[PairImage, tuple[Boxes, tuple[int, int]]] = {}
        self.seconds = 0.0

    def __call__(self, image: PairImage) -> tuple[Boxes, tuple[int, int]]:
        """The boxes (B, 4), and the size of the image (height, width)."""
        if image not in self.found:
            pixels = image.load()
            size = int(pixels.shape[1]), int(pixels.shape[2])
            started = time.process_time()
            boxes = thinned(inside_border(self.search(pixels), size), MOST)
            self.seconds += time.process_time() - started
            self.found[image] = boxes, size
        return self.found[image]


def bound_of(pair: AnnotatedPair, boxes: Searched) -> tuple[int, float]:
    """How many boxes of a pair are valid, and the area under PCR of the best boxes of the target."""
    (source, _), (target, (height, width)) = boxes(pair.source), boxes(pair.target)
    extent = (*pair.in_source.min(axis=0).tolist(), *pair.in_source.max(axis=0).tolist())
    valid = source[valid_boxes(source, extent, pair.in_source)]
    spline = ThinPlateSpline.fit(pair.source_points, pair.target_points)
    edges = (-0.5, -0.5), (width - 0.5, height - 0.5)
    truth = warp_boxes(valid, lambda corners: np.clip(spline(corners), *edges))
    curve = probability_of_correct_regions(best_iou(truth, target))
    return len(valid), area_under_curve(REGION_THRESHOLDS, curve)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, metavar="DIR")
    parser.add_argument("--dataset", default="pf-willow", choices=("pf-willow", "pf-pascal"))
    parser.add_argument("--pairs", type=int, default=20)
    options = parser.parse_args()

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    pairs = load_dataset(options.dataset, options.root).limited(options.pairs).pairs
    table = Table("boxes", "an image", "narrow", "valid", "PCR AuC", "seconds")
    for name, search in KINDS.items():
        boxes = Searched(search)
        valid, bounds = zip(*(bound_of(pair, boxes) for pair in pairs), strict=True)
        counts = [len(found) for found, _ in boxes.found.values()]
        narrow = [
            (found[:, 2:] - found[:, :2]).min(axis=1) < NARROW * max(size) for found, size in boxes.found.values()
        ]
        table.add_row(
            name,
            f"{np.mean(counts):.0f}",
            f"{np.concatenate(narrow).mean():.2f}",
            f"{np.mean(valid):.0f}",
            f"{np.mean(bounds):.3f}",
            f"{boxes.seconds / len(counts):.2f}",
        )
        Console(stderr=True).print(name, f"{np.mean(counts):.0f} {np.mean(bounds):.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
