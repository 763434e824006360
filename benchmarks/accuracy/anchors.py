"""Measure each class's bank of filters of an AnchorNet on labelled photographs with true boxes.

    python benchmarks/accuracy/anchors.py --photographs DIR --weights FILE [--count 300] [--held-out 0.05]

DIR: the folder of tar shards that the weights were trained on, beside a labels.csv with true boxes. Only the
photographs that `geomatch train anchornet` held out are used. Of these, ``count`` are drawn so that labels take turns,
those with true boxes first.

Of each class, the mean over its photographs that have true boxes:

- sparsity: share of a map's squared response in its best 5 % of cells, mean over filters
- diversity: mean cosine of two maps; less is more diverse
- coverage: share of the largest true box that is near the peak of some filter
- peaks in box: share of the filters whose peak lies in a true box; "by chance" is the boxes' share of the photograph
- CorLoc: share of photographs on which the box with the largest sum of responses, less their mean, has IoU >= .5 with a
  true box; "of whole" is that of the whole photograph

From all photographs drawn: the average precision (AP) of the class's score, which is the mean over its filters of the
strongest response less the threshold. A photograph counts as showing what it is labelled with and nothing else.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from geomatch.annotations import Box
from geomatch.datasets.crops import read_true_boxes
from geomatch.datasets.image_folder import find_images
from geomatch.datasets.image_list import LabelledImage, hold_out
from geomatch.evaluation.metrics.anchors import class_scores, coverage, diversity, object_map, peaks_in, sparsity
from geomatch.evaluation.metrics.localisation import Localisation, is_correct
from geomatch.evaluation.metrics.retrieval import average_precision
from geomatch.features.anchornet import AnchorFeatures
from geomatch.features.load import load_features
from geomatch.geometry.grid import Grid, read_cells, rescale_position
from geomatch.options import PRESETS, Device, Preset
from geomatch.runtime.device import find_device
from geomatch.training.objects.crops import CELLS, CandidateBoxes

TrueBoxes = Mapping[tuple[str, str], list[Box]]


@dataclass(frozen=True)
class Measured:
    """The measures of a bank on one photograph. peaks: share in true boxes; chance: those boxes' share of its pixels.

    corloc, whole: whether the box found, and the whole photograph, are correct.
    """

    sparsity: float
    diversity: float
    coverage: float
    peaks: float
    chance: float
    corloc: float
    whole: float


def take_turns(photographs: Sequence[LabelledImage], true: TrueBoxes, count: int, seed: int) -> list[LabelledImage]:
    """``count`` of the photographs, or all: each label in turn gives one at random, those with true boxes first.

    The background takes its turn like a label.
    """
    order = np.random.default_rng(seed).permutation(len(photographs))
    groups: defaultdict[str, list[LabelledImage]] = defaultdict(list)
    for photograph in (photographs[index] for index in order):
        for label in photograph.labels:
            groups[label].append(photograph)
    queues = [  # taken from the end
        sorted(group, key=lambda photograph, label=label: (photograph.name, label) in true)  # type: ignore[misc]
        for label, group in sorted(groups.items())
    ]
    drawn: dict[str, LabelledImage] = {}
    while len(drawn) < count and any(queues):
        for queue in queues:
            while queue and queue[-1].name in drawn:
                queue.pop()
            if queue and len(drawn) < count:
                photograph = queue.pop()
                drawn[photograph.name] = photograph
    return list(drawn.values())


def measure(bank: Tensor, grid: Grid, image_size: tuple[int, int], boxes: Sequence[Box]) -> Measured:
    """A bank's maps (K, h, w) against the true boxes of its class on an image of (height, width)."""
    largest = max(boxes, key=_area)
    whole = (-0.5, -0.5, image_size[1] - 0.5, image_size[0] - 0.5)
    return Measured(
        float(sparsity(bank).mean()),
        float(diversity(bank)),
        coverage(largest, bank, grid),
        peaks_in(boxes, bank, grid),
        covered(boxes, image_size),
        float(is_correct(Localisation("", find_box(bank, grid, image_size), boxes))),
        float(is_correct(Localisation("", whole, boxes))),
    )


def find_box(bank: Tensor, grid: Grid, image_size: tuple[int, int]) -> Box:
    """The box, in pixels, in which the bank's responses exceed their mean most, of those that `find_crops` tries."""
    centres = Grid.over(image_size, CELLS, CELLS).centres()
    evidence = read_cells(object_map(bank)[None, None], grid.to_cells(centres)[None]).reshape(1, CELLS, CELLS)
    [(box, _)] = CandidateBoxes.of_unit_square().best(evidence)
    height, width = image_size
    left, top, right, bottom = (
        rescale_position(edge - 0.5, 1, side) for edge, side in zip(box, (width, height) * 2, strict=True)
    )
    return left, top, right, bottom


def covered(boxes: Sequence[Box], image_size: tuple[int, int]) -> float:
    """The share of an image's pixels that lie in one of the boxes."""
    y, x = np.indices(image_size)
    inside = np.zeros(image_size, bool)
    for left, top, right, bottom in boxes:
        inside |= (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
    return float(inside.mean())


def survey(
    extractor: AnchorFeatures, photographs: Sequence[LabelledImage], true: TrueBoxes
) -> tuple[NDArray[np.float32], dict[str, list[Measured]]]:
    """Each class's score on each photograph (photographs, N), and each class's measures where it has true boxes."""
    config = extractor.network.config
    scores = np.empty((len(photographs), len(config.classes)), np.float32)
    measured: dict[str, list[Measured]] = {name: [] for name in config.classes}
    for row, photograph in zip(scores, track(photographs, "responding", console=Console(stderr=True)), strict=True):
        found = extractor.respond(photograph.load())
        maps = found.maps.cpu()
        row[:] = class_scores(maps, extractor.network.response_thresholds(), len(config.classes))
        for name in config.classes:
            if boxes := true.get((photograph.name, name)):
                measured[name].append(measure(maps[config.bank(name)], found.grid, found.image_size, boxes))
    return scores, measured


def mean(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of each column without NaN; NaN for a column without numbers."""
    known = ~np.isnan(numbers)
    count = known.sum(axis=0)
    return np.where(count > 0, np.where(known, numbers, 0).sum(axis=0) / np.maximum(count, 1), np.nan)


def _area(box: Box) -> float:
    left, top, right, bottom = box
    return (right - left) * (bottom - top)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True, metavar="DIR")
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--held-out", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    size, place = PRESETS[Preset.default].working_size, find_device(Device.auto)
    extractor = load_features("anchornet", working_size=size, device=place, weights=options.weights)
    assert isinstance(extractor, AnchorFeatures)
    true = read_true_boxes([options.photographs])
    _, unseen = hold_out(find_images([options.photographs]), options.held_out)
    photographs = take_turns(unseen, true, options.count, options.seed)
    scores, measured = survey(extractor, photographs, true)

    table = Table(title=f"{options.weights.name} on {len(photographs)} photographs", title_justify="left")
    table.add_column("class")
    columns = ("sparsity", "diversity", "coverage", "peaks in box", "by chance", "CorLoc", "of whole", "AP")
    for column in ("boxed", "labelled", *columns):
        table.add_column(column, justify="right")
    rows = []
    for index, (name, each) in enumerate(measured.items()):
        showing = np.array([name in photograph.labels for photograph in photographs])
        numbers = mean(np.array([astuple(one) for one in each], np.float64).reshape(-1, len(fields(Measured))))
        rows.append(np.append(numbers, average_precision(scores[:, index], showing)))
        table.add_row(name, str(len(each)), str(showing.sum()), *map(_cell, rows[-1]))
    table.add_section()
    table.add_row("mean", "", "", *map(_cell, mean(np.stack(rows))))
    Console(width=120).print(table)


def _cell(number: float) -> str:
    return "" if np.isnan(number) else f"{number:.3f}"


if __name__ == "__main__":
    main()
