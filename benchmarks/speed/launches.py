"""What a GPU would be asked to do: operators launched and waits, of a training step and of matching a pair.

    python benchmarks/speed/launches.py [--only NAME ...] [--by-module] [--json]

No GPU is needed. A stand-in (`stand_in_device`) computes on the CPU and counts; it says nothing about time. A training
makes three small steps, and the last one counts, from the loss to the weights; photographs are decoded and views drawn
by threads, which do not count. A match is that of the teapots of the examples, features extracted, mirror
choice included where it says so. ``--by-module`` splits each line by the module of geomatch that asked.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from stand_in_device import DEVICE, StandIn

from geomatch.datasets.image_folder import ImageReader
from geomatch.datasets.image_list import LabelledImage
from geomatch.datasets.keypoint_pairs import KeypointPair, KeypointView
from geomatch.features.anchornet import AnchorConfig, AnchorNet
from geomatch.features.introspection import IntrospectionConfig, IntrospectionNet
from geomatch.io.images import load_image
from geomatch.options import Preset
from geomatch.pipeline import Pipeline
from geomatch.registry import MATCHERS
from geomatch.training.anchornet.start import draw_banks
from geomatch.training.anchornet.task import BankTask, CodeTask, LabelledViews
from geomatch.training.distributed import ProcessGroup
from geomatch.training.introspection.task import IntrospectionTask
from geomatch.training.introspection.teacher import build_teacher
from geomatch.training.keypoints.columns import ColumnStore
from geomatch.training.keypoints.heads import HeadTask
from geomatch.training.keypoints.task import KeypointTask
from geomatch.training.letterbox import Letterbox
from geomatch.training.recipes import KEYPOINTS, SHIPPED, SHIPPED_ANCHORS
from geomatch.training.trainer import Optimisation, Progress, Task, TrainingFiles, train

TEAPOTS = Path(__file__).parents[2] / "examples" / "teapots"
SIDE = 65  # of the views
STEPS = 3  # of which the last one counts
CLASSES = ("cat", "dog")
NETWORK = IntrospectionConfig(stages=("1",), descriptor_size=16)


@dataclass(frozen=True)
class Counted:
    """Launches and waits, by place."""

    launches: Counter[str]
    waits: Counter[tuple[str, str]]

    @classmethod
    def of(cls, device: StandIn) -> Counted:
        return cls(Counter(device.launches), Counter(device.waits))


class _EnoughError(Exception):
    """The step that counts is done."""


@dataclass(frozen=True)
class _Pairs:
    """Pairs of photographs that share eight random keypoints."""

    images: list[LabelledImage]
    photographs: int = 2

    def draw(self, random: np.random.Generator) -> KeypointPair:
        first, second = (
            KeypointView(image, random.uniform(60, 160, (8, 2)), (40.0, 40.0, 180.0, 180.0))
            for image in random.choice(np.array(self.images, dtype=object), 2, replace=False)
        )
        return KeypointPair(first, second)


def make_photographs(folder: Path) -> list[LabelledImage]:
    """12 smooth random pictures of two labels."""
    random = np.random.default_rng(0)
    images = []
    for number in range(12):
        path = folder / f"{number}.png"
        noise = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8))
        noise.resize((240, 220), Image.Resampling.BICUBIC).save(path)
        images.append(LabelledImage(path.name, path, (CLASSES[number % 2],)))
    return images


@contextmanager
def introspection(images: list[LabelledImage], reader: ImageReader) -> Iterator[Task]:
    recipe = replace(SHIPPED[0], network=NETWORK, view_size=SIDE, teacher_size=SIDE)
    network = IntrospectionNet(recipe.network).to(DEVICE)
    teacher = build_teacher(network, (), recipe, (Letterbox.of(images[0].load(), SIDE, DEVICE),), trained=False)
    task = IntrospectionTask(recipe, network, images, reader, DEVICE, teacher)
    with task.load.upcoming:
        yield task


@contextmanager
def anchornet(images: list[LabelledImage], reader: ImageReader, part: type[BankTask | CodeTask]) -> Iterator[Task]:
    config = AnchorConfig(CLASSES, stages=("1",), filters=4, code_size=8)
    recipe = replace(SHIPPED_ANCHORS[0], view_size=SIDE, network=config)
    network = AnchorNet(recipe.network)
    draw_banks(network, recipe.seed)
    views = LabelledViews(recipe, images, reader, DEVICE)
    network.to(DEVICE)
    with views.load.upcoming:
        yield BankTask(network, views, tune_trunk=False) if part is BankTask else CodeTask(network, views)


@contextmanager
def keypoints(images: list[LabelledImage], reader: ImageReader, *, heads: bool) -> Iterator[Task]:
    recipe = replace(KEYPOINTS[0], view_size=SIDE, column_size=16)
    network = IntrospectionNet(replace(NETWORK, context=recipe.context)).to(DEVICE)
    sources = [_Pairs(images)]
    if not heads:
        task = KeypointTask(recipe, network, sources, reader, DEVICE)
        with task.upcoming:
            yield task
        return
    with tempfile.TemporaryDirectory() as folder, ColumnStore(network, recipe, Path(folder), nullcontext) as store:
        with patch("geomatch.training.keypoints.columns.EXAMPLES", 4):
            store.fit(sources, reader)
        yield HeadTask(recipe, network, sources, reader, store)


TRAININGS: Mapping[str, Callable[[list[LabelledImage], ImageReader], AbstractContextManager[Task]]] = {
    "introspection": introspection,
    "anchornet, banks": partial(anchornet, part=BankTask),
    "anchornet, code": partial(anchornet, part=CodeTask),
    "keypoints, heads alone": partial(keypoints, heads=True),
    "keypoints, all layers": partial(keypoints, heads=False),
}


def count_step(name: str) -> Counted:
    """Count the last of a training's first steps: the loss, its gradient, the optimiser and the log."""
    with tempfile.TemporaryDirectory() as folder, StandIn() as device:
        images = make_photographs(Path(folder))
        reader = ImageReader(len(images), tolerated=0)

        def after_step(progress: Progress) -> None:
            if progress.step == STEPS:
                raise _EnoughError
            device.reset()

        with suppress(_EnoughError), TRAININGS[name](images, reader) as task:
            optimisation = Optimisation(steps=STEPS + 1)
            files = TrainingFiles(Path(folder) / "checkpoint", Path(folder) / "log")
            group = ProcessGroup(device=DEVICE)
            train(task, optimisation, files, recipe={}, resume=False, on_progress=after_step, processes=group)
        return Counted.of(device)


def count_match(preset: str, matcher: str | None, mirror: str) -> Counted:
    """Count a match of two images, their features given."""
    with StandIn() as device:
        pipeline = Pipeline(preset=preset, matcher=matcher, device=DEVICE).with_mirror(mirror)
        features = [pipeline.extract(load_image(TEAPOTS / name)) for name in ("a.png", "b.png")]
        device.reset()
        pipeline.match(*features)
        return Counted.of(device)


def rows(name: str, counted: Counted, *, by_module: bool) -> Iterator[dict[str, Any]]:
    """A line for what was counted, or one for each module."""
    if not by_module:
        yield {"work": name, "launches": counted.launches.total(), "waits": counted.waits.total()}
        return
    waits: dict[str, dict[str, int]] = defaultdict(dict)
    for (module, operator), times in counted.waits.items():
        waits[module][operator] = times
    for module in sorted({*counted.launches, *waits}, key=counted.launches.__getitem__, reverse=True):
        own = waits[module]
        yield {
            "work": name,
            "module": module,
            "launches": counted.launches[module],
            "waits": sum(own.values()),
            "for": ", ".join(f"{operator} {times}" for operator, times in own.items()),
        }


def works() -> dict[str, Callable[[], Counted]]:
    """Everything that can be counted, by name."""
    steps = {f"step of {name}": partial(count_step, name) for name in TRAININGS}
    presets = {f"match, {preset}": partial(count_match, preset, None, "off") for preset in Preset}
    mirrored = {"match, default, --mirror auto": partial(count_match, "default", None, "auto")}
    every = [name for name in MATCHERS.entries if not name.startswith("scnet")]  # whose weights are not shipped
    matchers = {f"match by {name}": partial(count_match, "fast", name, "off") for name in every}
    return {**steps, **presets, **mirrored, **matchers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="names, or how they begin")
    parser.add_argument("--by-module", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    chosen = {
        name: count for name, count in works().items() if not options.only or name.startswith(tuple(options.only))
    }
    found = [row for name, count in chosen.items() for row in rows(name, count(), by_module=options.by_module)]
    if options.json:
        print(json.dumps(found, indent=2))
        return
    table = Table()
    for column in found[0] if found else ():
        table.add_column(column, justify="right" if column in ("launches", "waits") else "left")
    for row in found:
        table.add_row(*map(str, row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
