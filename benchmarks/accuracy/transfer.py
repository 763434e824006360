"""Accuracy of transferred annotations: from an animal to others of its kind, and to a known view of itself.

    python benchmarks/accuracy/transfer.py --animals animal-parts [--references 5]

Animals are those of a folder in SPair's layout whose entries name their keypoints (`kps_ids`); what the pairs know of
an animal is merged. `--references` of each kind, evenly spread (0: all), are transferred to every other one of it.

Keypoints that both have: PCK, protocol geomatch, an error of at most alpha times the longer side of the target's object
box. Boxes: IoU with the object box. Masks are polygons round the keypoints that both have: IoU with the polygon round
the target's. As a baseline nothing is matched: the same place relative to the image's sides. The views are random
homographies of the references (as in benchmarks/accuracy/warps.py), where the true place of the polygon is known.

Shown are means over pairs.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.spatial import ConvexHull
from warps import SIZES, known_warp

from geomatch.annotations import Box, Instance, Points, Region
from geomatch.correspondence import Correspondence
from geomatch.datasets.base import image_size
from geomatch.evaluation.metrics.dense import intersection_over_union
from geomatch.geometry.boxes import box_iou
from geomatch.io.annotations.polygons import fill
from geomatch.io.images import load_image
from geomatch.options import Preset
from geomatch.pipeline import Pipeline
from geomatch.transfer.transfer import transfer_regions

ALPHAS = (0.05, 0.10, 0.15)
FEWEST_CORNERS = 5
"""Keypoints that a polygon is drawn round, at least."""


@dataclass
class Animal:
    """An annotated photograph. points: by name, (2,) each."""

    file: Path
    kind: str
    box: Box
    points: dict[str, Points] = field(default_factory=dict)


Scores = dict[str, float]
"""Of a pair, by name; what does not apply is left out."""


def read_animals(root: Path) -> dict[str, list[Animal]]:
    """The animals by kind, in order of their files."""
    animals: dict[Path, Animal] = {}
    for file in sorted(root.glob("PairAnnotation/*/*.json")):
        entry = json.loads(file.read_text())
        for side in ("src", "trg"):
            kind = str(entry.get(f"{side}_category", entry["category"]))
            path = root / "JPEGImages" / kind / str(entry[f"{side}_imname"])
            left, top, right, bottom = map(float, entry[f"{side}_bndbox"])
            animal = animals.setdefault(path, Animal(path, kind, (left, top, right, bottom)))
            places = np.array(entry[f"{side}_kps"], dtype=np.float64)
            animal.points |= dict(zip(entry["kps_ids"], places, strict=True))
    kinds: dict[str, list[Animal]] = defaultdict(list)
    for path in sorted(animals):
        kinds[animals[path].kind].append(animals[path])
    return kinds


def spread(animals: Sequence[Animal], count: int) -> list[Animal]:
    """``count`` of them, evenly spread; all if that is 0 or more than there are."""
    count = min(count or len(animals), len(animals))
    return [animals[number * len(animals) // count] for number in range(count)]


def score(source: Animal, target: Animal, forward: Correspondence, backward: Correspondence) -> Scores:
    """Transfer the source's points, box and polygon to the target, and compare with the truth there."""
    sizes = forward.source_size, forward.target_size
    moved = unmoved(np.array(source.box).reshape(2, 2), *sizes).ravel()
    boxes = [instance.shape for instance in transfer_regions([Instance(source.kind, 1, source.box)], backward)]
    scores = {
        "box IoU": overlap(boxes[0], target.box) if boxes and isinstance(boxes[0], tuple) else 0.0,
        "unmoved box IoU": overlap(moved, target.box),
    }
    shared = sorted(source.points.keys() & target.points.keys())
    if not shared:
        return scores
    marked, truth = (np.stack([animal.points[name] for name in shared]) for animal in (source, target))
    reach = max(target.box[2] - target.box[0], target.box[3] - target.box[1])
    for name, places in (("", forward.map_points(marked).positions), ("unmoved ", unmoved(marked, *sizes))):
        error = np.linalg.norm(places - truth, axis=1)
        scores |= {f"{name}PCK@{alpha:.2f}": float((error <= alpha * reach).mean()) for alpha in ALPHAS}
    if len(shared) >= FEWEST_CORNERS:
        mask, true_mask = fill([around(marked)], sizes[0]), fill([around(truth)], sizes[1])
        same_place = fill([around(unmoved(marked, *sizes))], sizes[1])
        scores["mask IoU"] = intersection_over_union(transferred_mask(mask, backward), true_mask)
        scores["unmoved mask IoU"] = intersection_over_union(same_place, true_mask)
    return scores


def score_view(source: Animal, pipeline: Pipeline, number: int) -> Scores:
    """Transfer the polygon round an animal's points to a random view of its photograph."""
    photograph, view, flow = known_warp(load_image(source.file), SIZES[number % len(SIZES)], seed=number)
    features = [pipeline.extract(image) for image in (photograph, view)]
    backward = pipeline.match(features[1], features[0])
    from_size, to_size = backward.target_size, backward.source_size
    polygon = unmoved(around(np.stack(list(source.points.values()))), image_size(source.file), from_size)
    mask = fill([polygon], from_size)
    border = np.concatenate(
        [np.linspace(*ends, 50) for ends in zip(polygon, np.roll(polygon, -1, axis=0), strict=True)]
    )
    x, y = border.round().astype(int).clip(0, np.array(from_size)[::-1] - 1).T
    truth = fill([border + flow[:, y, x].numpy().T], to_size)
    return {"mask IoU": intersection_over_union(transferred_mask(mask, backward), truth)} if truth.any() else {}


def transferred_mask(mask: NDArray[np.bool_], backward: Correspondence) -> NDArray[np.bool_]:
    found = [instance.shape for instance in transfer_regions([Instance("", 1, Region(mask))], backward)]
    return found[0].mask if found and isinstance(found[0], Region) else np.zeros(backward.source_size, bool)


def around(points: Points) -> Points:
    """The corners of the convex polygon round points (K, 2)."""
    return np.asarray(points[ConvexHull(points, qhull_options="QJ").vertices])


def unmoved(points: Points, from_size: tuple[int, int], to_size: tuple[int, int]) -> Points:
    """The same places, relative to the sides, on an image of another (height, width)."""
    scale = np.array(to_size[::-1]) / np.array(from_size[::-1])
    return np.asarray((points + 0.5) * scale - 0.5)


def overlap(first: Sequence[float] | NDArray[np.float64], second: Box) -> float:
    return float(box_iou(np.array([first]), np.array([second]))[0])


def tell(title: str, rows: Mapping[str, Sequence[Scores]], columns: Sequence[str], prefix: str = "") -> None:
    table = Table(title=title, title_justify="left")
    for column in ("", "pairs", *columns):
        table.add_column(column, justify="right" if column else "left")
    names = [prefix + column for column in columns]
    for row, scores in rows.items():
        means = (np.mean([each[name] for each in scores if name in each]) for name in names)
        table.add_row(row, str(len(scores)), *(f"{mean:.3f}" for mean in means))
    Console(width=120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--animals", type=Path, required=True, metavar="DIR")
    parser.add_argument("--references", type=int, default=5)
    parser.add_argument("--preset", type=Preset, default=Preset.default)
    options = parser.parse_args()

    pipeline = Pipeline(preset=options.preset, zoom="off")  # as `geomatch transfer`
    kinds = read_animals(options.animals)
    extract = cache(lambda file: pipeline.extract(load_image(file)))
    rows: dict[str, list[Scores]] = defaultdict(list)
    views: list[Scores] = []
    references = [source for animals in kinds.values() for source in spread(animals, options.references)]
    for number, source in enumerate(track(references, "transferring", console=Console(stderr=True))):
        views.append(score_view(source, pipeline, number))
        for target in kinds[source.kind]:
            if target is not source:
                features = extract(source.file), extract(target.file)
                rows[source.kind].append(
                    score(source, target, pipeline.match(*features), pipeline.match(*features[::-1]))
                )
    rows["all"] = [scores for kind in kinds for scores in rows[kind]]
    columns = [f"PCK@{alpha:.2f}" for alpha in ALPHAS] + ["box IoU", "mask IoU"]
    title = f"from {len(references)} animals to all others of their kind, preset {options.preset}"
    tell(title, rows, columns)
    tell("nothing matched: the same relative place", rows, columns, "unmoved ")
    tell("to random views of themselves", {"all": views}, ["mask IoU"])


if __name__ == "__main__":
    main()
