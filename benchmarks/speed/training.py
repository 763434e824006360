"""How busy training keeps its device: whole steps of `geomatch train introspection` against the bare trunk.

    python benchmarks/speed/training.py [--photographs DIR] [--init TRUNK.safetensors] [--threads 1] [--clock processor]

A step is everything the command does: read, warp and recolour photographs, network, losses, optimiser, log. After each
step the trunk alone runs forward and backward on the same views under the same autocast, and the teacher, if there is
one, forward. So whatever slows the machine down slows both. The table has medians over the steps. Memory is the peak of
a process (on a GPU, of its memory) that does only the one or the other. Without ``--photographs`` the benchmark makes
some, without ``--init`` the weights are random: neither changes the work. ``--clock processor`` counts processor
seconds of all threads, for a shared machine.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from enum import StrEnum
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from subprocess_measurement import measure_in_subprocess
from torch import Tensor

from geomatch.datasets.image_folder import ImageReader, find_images
from geomatch.features.backbones.build import load_pretrained
from geomatch.features.introspection import IntrospectionNet
from geomatch.features.weights import read_tensors
from geomatch.options import Batches, Device, Precision
from geomatch.runtime.device import autocast, find_device
from geomatch.training.introspection.task import IntrospectionTask
from geomatch.training.introspection.teacher import build_teacher
from geomatch.training.letterbox import draw_letterboxes
from geomatch.training.recipes import SHIPPED
from geomatch.training.trainer import Optimisation, Progress, TrainingFiles, train

WARM_UP = 3
RECIPES = {"the paper's loss alone": 0.0, "shipped, with its teacher": SHIPPED[0].similarity_weight}


class Clock(StrEnum):
    """What time is measured by."""

    wall = "wall"
    processor = "processor"


@dataclass(frozen=True)
class Settings:
    """What a child process is to do. ``work``: "both" in turns, or "training" or the "trunk" alone."""

    work: str
    photographs: Path
    init: Path | None
    device: Device
    threads: int
    steps: int
    batch: int
    clock: Clock
    similarity_weight: float


@dataclass(frozen=True)
class Measured:
    """Seconds of each step, of the trunk's forward and backward after it and of the teacher's forward; peak bytes."""

    steps: list[float]
    trunk: list[float]
    teacher: list[float]
    peak: int


def make_photographs(folder: Path) -> Path:
    """48 smooth random pictures of one label, 224 pixels high and of different widths."""
    random = np.random.default_rng(0)
    (folder / "pictures").mkdir()
    for number in range(48):
        noise = random.integers(0, 256, (12, 16, 3), np.uint8)
        picture = Image.fromarray(noise).resize((int(random.integers(224, 400)), 224), Image.Resampling.BICUBIC)
        picture.save(folder / "pictures" / f"{number:02}.jpg")
    return folder


class Bench:
    """The training of one recipe, and the bare trunk beside it."""

    def __init__(self, settings: Settings) -> None:
        torch.manual_seed(0)
        torch.set_num_threads(settings.threads)
        self.settings, self.device = settings, find_device(settings.device)
        batches = Batches.mixed if settings.similarity_weight == 0 else Batches.one_class
        self.recipe = replace(
            SHIPPED[0], batch_size=settings.batch, similarity_weight=settings.similarity_weight, batches=batches
        )
        self.network = IntrospectionNet(self.recipe.network)
        if settings.init:
            load_pretrained(self.network.trunk, read_tensors(settings.init)[0], str(settings.init))
        photographs = find_images([settings.photographs])
        reader = ImageReader(len(photographs), tolerated=0.01)
        teacher = None
        if settings.similarity_weight:
            examples = draw_letterboxes(photographs, reader, self.recipe.teacher_size, 4, self.recipe.seed)
            teacher = build_teacher(self.network, (), self.recipe, examples, trained=False)
        self.task = IntrospectionTask(self.recipe, self.network, photographs, reader, self.device, teacher)
        self.views: list[Tensor] = []
        self.taught: list[tuple[Tensor, ...]] = []
        self.seconds: dict[str, list[float]] = {"steps": [], "trunk": [], "teacher": []}
        self.began = 0.0

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.process_time() if self.settings.clock is Clock.processor else time.perf_counter()

    def train(self, folder: Path) -> None:
        self.network.trunk.register_forward_pre_hook(lambda _, inputs: self.views.append(inputs[0]))
        if self.task.teacher is not None:
            self.task.teacher.register_forward_pre_hook(lambda _, inputs: self.taught.append(inputs))
        self.began = self.now()
        train(
            self.task,
            Optimisation(steps=WARM_UP + self.settings.steps),
            TrainingFiles(folder / "checkpoint", folder / "log"),
            recipe={},
            resume=False,
            on_progress=self.after_step,
        )

    def after_step(self, _: Progress) -> None:
        self.seconds["steps"].append(self.now() - self.began)
        views, taught = self.views.pop(), self.taught.pop() if self.taught else None
        if self.settings.work == "both":
            self.bare(views, taught)
        self.views.clear()
        self.taught.clear()
        self.began = self.now()

    def bare(self, views: Tensor, taught: tuple[Tensor, ...] | None = None) -> None:
        """The trunk forward and backward, and the teacher forward, each timed."""
        began = self.now()
        with autocast(self.device, Precision.auto):
            taps = self.network.trunk(views, self.network.stages)
        parameters = list(self.network.trunk.parameters())
        maps = list(taps.values())
        torch.autograd.grad(maps, parameters, [torch.ones_like(each) for each in maps], allow_unused=True)
        self.seconds["trunk"].append(self.now() - began)
        if self.task.teacher is not None and taught is not None:
            began = self.now()
            with autocast(self.device, Precision.auto):
                self.task.teacher(*taught)
            self.seconds["teacher"].append(self.now() - began)

    def peak(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def work(settings: Settings, out: Connection) -> None:
    """In a child process: send what was Measured."""
    bench = Bench(settings)
    if settings.work == "trunk":
        size = bench.recipe.view_size
        views = torch.rand(2 * settings.batch, 3, size, size, device=bench.device)
        bench.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for _ in range(WARM_UP):
            bench.bare(views.to(memory_format=torch.channels_last))
    else:
        with tempfile.TemporaryDirectory() as folder, bench.task.load.upcoming:
            bench.train(Path(folder))
    kept = {name: seconds[WARM_UP:] for name, seconds in bench.seconds.items()}
    out.send(Measured(**kept, peak=bench.peak()))


def row(name: str, images: int, both: Measured, peaks: list[int]) -> tuple[str, ...]:
    seconds, trunk = (statistics.median(values) for values in (both.steps, both.trunk))
    share = statistics.median(bare / step for bare, step in zip(both.trunk, both.steps, strict=True))
    with_teacher = [
        (bare + teacher) / step
        for bare, teacher, step in zip(both.trunk, both.teacher, both.steps, strict=bool(both.teacher))
    ]
    return (
        name,
        f"{images / seconds:.2f}",
        f"{images / trunk:.2f}",
        f"{share:.3f}",
        f"{statistics.median(with_teacher):.3f}" if with_teacher else "",
        *(f"{peak / (1 << 20):,.0f}" for peak in peaks),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, help="what --data of the command takes")
    parser.add_argument("--init", type=Path, help="pretrained trunk (safetensors)")
    parser.add_argument("--device", type=Device, default=Device.auto)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=4, help="photographs a step; each gives two views")
    parser.add_argument("--clock", type=Clock, default=Clock.wall, choices=list(Clock))
    options = parser.parse_args()
    table = Table(title=f"training steps of {2 * options.batch} views on {find_device(options.device)}")
    for column in (
        "recipe",
        "images/s",
        "trunk images/s",
        "ratio",
        "ratio to trunk + teacher",
        "peak MiB",
        "trunk MiB",
    ):
        table.add_column(column, justify="left" if column == "recipe" else "right")
    with tempfile.TemporaryDirectory() as folder:
        photographs = options.photographs or make_photographs(Path(folder))
        for name, similarity_weight in RECIPES.items():
            both, training, trunk = (
                measure_in_subprocess(
                    work,
                    Settings(
                        kind, photographs, options.init, options.device, options.threads, steps, options.batch,
                        options.clock, similarity_weight,
                    )
                )
                for kind, steps in (("both", options.steps), ("training", 2), ("trunk", 2))
            )  # fmt: skip
            table.add_row(*row(name, 2 * options.batch, both, [training.peak, trunk.peak]))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
