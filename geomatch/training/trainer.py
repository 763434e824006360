"""The training loop: optimiser, schedule, mixed precision, averaging, checkpoints, log.

What is learnt is up to a `Task`; `geomatch.training.distributed` shares the work among processes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol, SupportsFloat

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from geomatch.datasets.image_index import find_images_once
from geomatch.datasets.image_list import ImageList
from geomatch.errors import InputError, TrainingError
from geomatch.io.atomic import check_new_file
from geomatch.options import Device, Precision
from geomatch.parameters import check_limits
from geomatch.runtime.device import autocast, warn_if_slow
from geomatch.runtime.launcher import process_number
from geomatch.training.checkpoint import TrainingState, check_checkpoint, load_checkpoint, save_checkpoint
from geomatch.training.claim import claimed
from geomatch.training.distributed import ProcessGroup, ProcessLostError
from geomatch.training.interrupts import Interrupts
from geomatch.training.monitoring.log import append, keep_before


@dataclass(frozen=True)
class StepLoss:
    """A batch's scalar loss, the numbers to report with it, and how many images the network has seen.

    report: may hold tensors on their device. unreadable: names of photographs that could not be used.
    """

    loss: Tensor
    report: Mapping[str, SupportsFloat]
    images: int
    unreadable: tuple[str, ...] = ()


class Task(Protocol):
    """A network to train and the loss of a batch, which must depend on the batch's number alone."""

    @property
    def network(self) -> nn.Module: ...

    def loss(self, batch: int, autocast: AbstractContextManager[object]) -> StepLoss:
        """The loss of a batch; the forward pass belongs inside ``autocast``, the loss itself outside."""
        ...


@dataclass(frozen=True)
class Optimisation:
    """How long and how fast to learn.

    steps: if ``epochs`` is 0. epochs: else as many steps as show so many times the number of photographs; they are
    drawn at random, so some are seen more often than others. batches_per_step: batches whose gradients are averaged for
    one step. ema_decay: decay per step of the moving average
    of the weights; 0: no average. wise_ft_alpha: the final weights are initial + alpha (trained - initial), which often
    do better on other data than the trained ones (Wortsman et al., WiSE-FT, CVPR 2022).
    """

    steps: int = 2400
    epochs: float = 0.0
    batches_per_step: int = 1
    ema_decay: float = 0.0
    wise_ft_alpha: float = 1.0
    warmup_steps: int = 100
    trunk_learning_rate: float = 3e-5
    head_learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    max_gradient_norm: float = 5.0
    precision: Precision = Precision.auto
    checkpoint_minutes: float = 5.0

    def __post_init__(self) -> None:
        """Raises InputError for a value beyond its limits."""
        check_limits(self, "training", "trunk_learning_rate head_learning_rate weight_decay max_gradient_norm")
        check_limits(self, "training", "steps warmup_steps checkpoint_minutes")
        check_limits(self, "training", "epochs", 0, 1e6)
        check_limits(self, "training", "batches_per_step", 1)
        check_limits(self, "training", "ema_decay", 0, 0.9999)
        check_limits(self, "training", "wise_ft_alpha", 0, 1)

    def for_photographs(self, count: int, batch_size: int) -> Optimisation:
        """With the steps that its epochs take on so many photographs, at least one."""
        if not self.epochs:
            return self
        return replace(self, steps=max(1, math.ceil(self.epochs * count / (batch_size * self.batches_per_step))))


@dataclass(frozen=True)
class TrainingRun:
    """What a training reads and writes.

    data: photographs, as for `find_images`. init: pretrained weights (safetensors), of a joint trunk those of both.
    out: weights file to write, with checkpoint and log beside it. max_unreadable: share of the photographs that may be
    damaged. overwrite: replace the files of an earlier training.
    """

    data: Sequence[Path]
    init: Sequence[Path]
    out: Path
    device: Device = Device.auto
    resume: bool = False
    max_unreadable: float = 0.01
    overwrite: bool = False

    def check_outputs(self, *parts: str) -> None:
        """Raise InputError, before any work, if weights or a part's checkpoint exist or cannot be written.

        A training that resumes, or is to overwrite, may find them.
        """
        may, instead = self.overwrite or self.resume, "give another --out, --resume if a training was stopped"
        check_new_file(self.out, overwrite=may, suffixes=(".safetensors",), instead=instead)
        for part in parts:
            check_new_file(self.files(part).checkpoint, overwrite=may, instead=instead)

    @contextmanager
    def writing(self, *parts: str) -> Iterator[None]:
        """Inside, no other training writes the same weights; of several processes the main one sees to that.

        Raises InputError as `check_outputs`, or if another training writes them now.
        """
        if process_number()[0] > 0:
            yield
            return
        with claimed(self.out):
            self.check_outputs(*parts)  # another may have ended since they were checked first
            yield

    def only_init(self) -> Path:
        """The one file to start from. Raises InputError if there are none or several."""
        if not self.init:
            raise InputError("give the weights to start from, --init FILE")
        if len(self.init) > 1:
            raise InputError(f"this training starts from one file of weights, not {len(self.init)}: give --init once")
        return self.init[0]

    def photographs(self) -> ImageList:
        """The images in ``data``; a list of many is kept in OUT.index. Raises InputError if there are none."""
        return find_images_once(self.data, self.out.with_name(f"{self.out.name}.index"))

    def files(self, part: str = "") -> TrainingFiles:
        """The checkpoint and the log of a part of the training: OUT.checkpoint, or OUT.PART.checkpoint."""
        stem = f"{self.out.name}.{part}" if part else self.out.name
        return TrainingFiles(self.out.with_name(f"{stem}.checkpoint"), self.out.with_name(f"{stem}.log.jsonl"))


@dataclass(frozen=True)
class TrainingFiles:
    """Where a training saves its state and its log."""

    checkpoint: Path
    log: Path

    def check_resumable(self, recipe: Mapping[str, object], optimisation: Optimisation) -> None:
        """Raises InputError if the checkpoint is missing, damaged or was made with other settings."""
        check_checkpoint(self.checkpoint, _settings(recipe, optimisation))


@dataclass(frozen=True)
class Validation:
    """Every ``every`` steps and at the end, ``score`` rates the network and ``keep`` saves it if it is the best."""

    every: int
    score: Callable[[], float]
    keep: Callable[[], None]

    def is_due(self, step: int, steps: int) -> bool:
        return step > 0 and (step % self.every == 0 or step == steps)


@dataclass(frozen=True)
class Progress:
    """How far training is. report: the loss and the task's numbers, or the score. line: the report in the log."""

    step: int
    steps: int
    report: dict[str, float]
    images_per_second: float
    line: Mapping[str, object]


def learning_rate_at(step: int, optimisation: Optimisation) -> float:
    """The learning rate at a step as a share of its peak: a linear warm-up, then half a cosine to zero."""
    if step < optimisation.warmup_steps:
        return (step + 1) / optimisation.warmup_steps
    done = (step - optimisation.warmup_steps) / max(1, optimisation.steps - optimisation.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * done))


def train(
    task: Task,
    optimisation: Optimisation,
    files: TrainingFiles,
    *,
    recipe: Mapping[str, object],
    resume: bool,
    on_progress: Callable[[Progress], None],
    validation: Validation | None = None,
    processes: ProcessGroup | None = None,
    constrain: Callable[[], None] = lambda: None,
) -> None:
    """Train ``task.network`` in place; it then holds the final weights, averaged and interpolated.

    The checkpoint is saved every ``checkpoint_minutes``, at the end and on interruption. Every step and validation adds
    a line of JSON to the log. Of several processes only the main one writes, validates and reports.

    Args:
        recipe: settings besides the optimisation; a checkpoint is resumed only if it was made with the same.
        on_progress: called after every step and validation.
        constrain: brings the network's weights back to where they may be, after every step.

    Raises:
        TrainingError: if the loss or its gradient is not finite, or another process has stopped.
        InputError: if the checkpoint cannot be resumed, a file cannot be written, or the batches of a step cannot be
            shared out evenly.
    """
    processes = processes or ProcessGroup()
    if optimisation.batches_per_step % processes.size:
        raise InputError(
            f"{optimisation.batches_per_step} batches a step cannot be shared out evenly among {processes.size} "
            f"processes: give --accumulate {processes.size} or a multiple of it"
        )
    state = _initial_state(task.network, optimisation)
    if resume:
        load_checkpoint(files.checkpoint, state, _settings(recipe, optimisation))
    loop = _Loop(task, optimisation, files, recipe, on_progress, validation, processes, state, constrain)
    if processes.is_main:
        warn_if_slow(optimisation.precision, processes.device)
        keep_before(files.log, state.step)
    with Interrupts() as interrupts:
        try:
            loop.validate_if_due()
            while state.step < optimisation.steps:
                loop.step(interrupts)
                loop.save_if_due()
                loop.validate_if_due()
        except (KeyboardInterrupt, ProcessLostError):
            # torchrun sends SIGTERM as soon as it sees that another process has stopped.
            with suppress(KeyboardInterrupt), interrupts.held():
                loop.save()
            raise
    loop.save()
    state.load_final_weights()


@dataclass
class _Loop:
    """One training, from the state it starts or resumes with."""

    task: Task
    optimisation: Optimisation
    files: TrainingFiles
    recipe: Mapping[str, object]
    on_progress: Callable[[Progress], None]
    validation: Validation | None
    processes: ProcessGroup
    state: TrainingState
    constrain: Callable[[], None]

    def __post_init__(self) -> None:
        self.first_step, self.seconds_before = self.state.step, self.state.seconds
        self.started = self.saved = time.monotonic()

    def step(self, interrupts: Interrupts) -> None:
        """One step of the optimiser, and its line in the log; a signal waits until both are done."""
        began, step = time.monotonic(), self.state.step
        report, images, unreadable = self._find_gradients()
        with interrupts.held():
            self.state.advance(self.constrain)
            if self.processes.is_main:
                named = {"unreadable": unreadable} if unreadable else {}
                self._report(step, report, images, seconds=round(time.monotonic() - began, 4), **named)

    def validate_if_due(self) -> None:
        """Score the weights that training would end with now, in the main process, and keep the best."""
        validation, state = self.validation, self.state
        if not validation or not self.processes.is_main or not validation.is_due(state.step, self.optimisation.steps):
            return
        with state.final_weights():
            score = validation.score()
            if state.best is None or score > state.best:
                state.best = score
                validation.keep()
        self._report(state.step, {"validation": score})

    def save_if_due(self) -> None:
        if time.monotonic() - self.saved > 60 * self.optimisation.checkpoint_minutes:
            self.save()
            self.saved = time.monotonic()

    def save(self) -> None:
        self.state.seconds = self.seconds_before + time.monotonic() - self.started
        if self.processes.is_main:
            save_checkpoint(self.files.checkpoint, self.state, _settings(self.recipe, self.optimisation))

    def _find_gradients(self) -> tuple[dict[str, float], int, list[str]]:
        """Compute a step's gradients; return the mean report, images seen and names unreadable, of all processes."""
        state, optimisation, processes = self.state, self.optimisation, self.processes
        for group in state.optimiser.param_groups:
            group["lr"] = group["peak_learning_rate"] * learning_rate_at(state.step, optimisation)
        parameters = list(self.task.network.parameters())
        device, batches = parameters[0].device, optimisation.batches_per_step
        state.optimiser.zero_grad(set_to_none=True)
        reports: list[dict[str, SupportsFloat]] = []
        images = 0
        unreadable: list[str] = []
        for batch in range(state.step * batches + processes.rank, (state.step + 1) * batches, processes.size):
            result = self.task.loss(batch, autocast(device, optimisation.precision))
            reports.append({"loss": result.loss.detach(), **result.report})
            images += result.images
            unreadable += result.unreadable
            (result.loss / batches).backward()  # type: ignore[no-untyped-call]
        processes.sum_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, optimisation.max_gradient_norm)
        *known, numbers = _read([*reports, {"norm": norm}])
        report = processes.mean({name: math.fsum(each[name] for each in known) / len(known) for name in known[0]})
        for name, value in (("loss", report["loss"]), ("gradient of the loss", numbers["norm"])):
            if not math.isfinite(value):
                raise TrainingError(
                    f"the {name} is not finite at step {state.step}: start again with lower learning rates; "
                    "the last checkpoint stays as it was"
                )
        return report, images * processes.size, processes.gather(unreadable)

    def _report(self, step: int, report: dict[str, float], images: int = 0, **others: object) -> None:
        line = {"step": step, **report, **others}
        append(self.files.log, line)
        pace = (time.monotonic() - self.started) / max(1, self.state.step - self.first_step)
        self.on_progress(Progress(self.state.step, self.optimisation.steps, report, images / pace, line))


def _initial_state(network: nn.Module, optimisation: Optimisation) -> TrainingState:
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    trunk = [p for name, p in network.named_parameters() if name.startswith("trunk.")]
    heads = [p for name, p in network.named_parameters() if not name.startswith("trunk.")]
    groups = [
        {"params": trunk, "peak_learning_rate": optimisation.trunk_learning_rate},
        {"params": heads, "peak_learning_rate": optimisation.head_learning_rate},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=optimisation.weight_decay, fused=True)
    rule = get_ema_multi_avg_fn(optimisation.ema_decay)  # type: ignore[no-untyped-call]
    average = AveragedModel(network, multi_avg_fn=rule) if optimisation.ema_decay else None
    initial = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    return TrainingState(network, optimiser, average, initial, optimisation.wise_ft_alpha)


def _read(reports: Sequence[Mapping[str, SupportsFloat]]) -> list[dict[str, float]]:
    """Reports in numbers. Their tensors are read at once, because a GPU waits whenever one is read."""
    tensors = [value for report in reports for value in report.values() if isinstance(value, Tensor)]
    numbers = iter(torch.stack(tensors).tolist())
    return [
        {name: next(numbers) if isinstance(value, Tensor) else float(value) for name, value in report.items()}
        for report in reports
    ]


def _settings(recipe: Mapping[str, object], optimisation: Optimisation) -> dict[str, object]:
    return {"recipe": recipe, "optimisation": asdict(optimisation)}
