"""The training loop: optimiser, schedule, mixed precision, averaging, checkpoints, log. What is learnt is the task's
affair; how many processes share the work is `geomatch.training.distributed`'s."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, SupportsFloat

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from geomatch.errors import InputError, TrainingError
from geomatch.io.atomic import write_atomically
from geomatch.options import Precision
from geomatch.training.distributed import ProcessLostError, Workers
from geomatch.training.interrupts import Interrupts
from geomatch.training.log import append, keep_before

CHECKPOINT_FORMAT = "geomatch-checkpoint-2"


@dataclass(frozen=True)
class StepLoss:
    """A batch's scalar loss, the numbers to report with it, and how many images went through the network.

    report: may be tensors on their device: they are read once its work on the step is under way.
    unreadable: names of photographs that were to be used and could not be.
    """

    loss: Tensor
    report: Mapping[str, SupportsFloat]
    images: int
    unreadable: tuple[str, ...] = ()


class Task(Protocol):
    """What can be trained: a network and the loss of a batch, which must depend on nothing but the batch's number."""

    @property
    def network(self) -> nn.Module: ...

    def loss(self, batch: int, autocast: AbstractContextManager[object]) -> StepLoss:
        """The loss of a batch; the network's forward pass belongs inside ``autocast``, the loss itself outside."""
        ...


@dataclass(frozen=True)
class Optimisation:
    """How long and how fast to learn.

    batches_per_step: whose gradients are averaged before the weights move, one after the other or shared out among
    processes. averaging: decay a step of the moving average of the weights that is kept; 0 keeps the weights.
    share_kept: how far the weights that are kept lie on the way from where training began to where it ended. Weights
    on that way often do better on other data than those at its end (Wortsman et al., WiSE-FT, CVPR 2022).
    """

    steps: int = 2400
    batches_per_step: int = 1
    averaging: float = 0.0
    share_kept: float = 1.0
    warm_up: int = 100
    trunk_rate: float = 3e-5
    head_rate: float = 1e-4
    weight_decay: float = 1e-4
    gradient_limit: float = 5.0
    precision: Precision = Precision.auto
    checkpoint_minutes: float = 5.0


@dataclass(frozen=True)
class Validation:
    """After every ``every`` steps and at the end ``score`` tells how good the network is; ``keep`` keeps the best."""

    every: int
    score: Callable[[], float]
    keep: Callable[[], None]

    def is_due(self, step: int, steps: int) -> bool:
        return step > 0 and (step % self.every == 0 or step == steps)


@dataclass(frozen=True)
class Progress:
    """Where training stands, after a step or a validation.

    report: the loss and what the task tells of it, or the score. line: the report as the log has it.
    """

    step: int
    steps: int
    report: dict[str, float]
    images_per_second: float
    seconds_left: float
    line: Mapping[str, object]


def rate_at(step: int, optimisation: Optimisation) -> float:
    """The learning rate at a step as a share of its peak: a linear warm-up, then half a cosine to zero."""
    if step < optimisation.warm_up:
        return (step + 1) / optimisation.warm_up
    done = (step - optimisation.warm_up) / max(1, optimisation.steps - optimisation.warm_up)
    return 0.5 * (1 + math.cos(math.pi * done))


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """bf16 autocast where asked for, or where ``auto`` finds hardware that is faster with it; else fp32."""
    if precision is Precision.auto:
        able = torch.cpu.get_capabilities()
        cpu_has_bf16 = able.get("amx_bf16", False) or able.get("avx512_bf16", False)
        fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else device.type == "cpu" and cpu_has_bf16
        precision = Precision.bf16 if fast else Precision.fp32
    return torch.autocast(device.type, torch.bfloat16) if precision is Precision.bf16 else nullcontext()


def train(
    task: Task,
    optimisation: Optimisation,
    *,
    recipe: dict[str, object],
    checkpoint: Path,
    resume: bool,
    log: Path,
    on_progress: Callable[[Progress], None],
    validation: Validation | None = None,
    workers: Workers | None = None,
) -> None:
    """Train ``task.network`` in place; afterwards it holds the weights to keep: averaged, or drawn back, if so asked.

    recipe: what a checkpoint must have been made with to be resumed. Every ``checkpoint_minutes``, at the end and
    when interrupted, the state goes to ``checkpoint``; every step and validation adds a line of JSON to ``log``. Of
    several ``workers`` only the leader writes, validates and tells of its progress.

    Raises TrainingError when the loss or its gradient is no longer finite or another process has gone, InputError when
    the checkpoint cannot be resumed, a file cannot be written, or the batches of a step cannot be shared out evenly.
    """
    workers = workers or Workers()
    if optimisation.batches_per_step % workers.count:
        raise InputError(
            f"{optimisation.batches_per_step} batches a step cannot be shared out evenly among {workers.count} "
            f"processes: give --accumulate {workers.count} or a multiple of it"
        )
    state = _State.new(task.network, optimisation)
    settings = _settings(recipe, optimisation)
    if resume:
        _load_checkpoint(checkpoint, state, settings)
    first, seconds_before = state.step, state.seconds
    if workers.lead:
        keep_before(log, first)
    started = saved = time.monotonic()

    def save_checkpoint() -> None:
        state.seconds = seconds_before + time.monotonic() - started
        if workers.lead:
            _save_checkpoint(checkpoint, state, settings)

    def tell(step: int, report: dict[str, float], images: int = 0, **others: object) -> None:
        line = {"step": step, **report, **others}
        append(log, line)
        pace = (time.monotonic() - started) / max(1, state.step - first)
        left = pace * (optimisation.steps - state.step)
        on_progress(Progress(state.step, optimisation.steps, report, images / pace, left, line))

    try:
        with Interrupts() as interrupts:
            while True:
                if workers.lead and validation and validation.is_due(state.step, optimisation.steps):
                    tell(state.step, {"validation": _validate(state, validation)})
                if state.step == optimisation.steps:
                    break
                began, step = time.monotonic(), state.step
                report, images, unreadable = _find_gradients(task, state, optimisation, workers)
                with interrupts.held():
                    state.move()
                    if workers.lead:
                        named = {"unreadable": unreadable} if unreadable else {}
                        tell(step, report, images, seconds=round(time.monotonic() - began, 4), **named)
                if time.monotonic() - saved > 60 * optimisation.checkpoint_minutes:
                    save_checkpoint()
                    saved = time.monotonic()
    except (KeyboardInterrupt, ProcessLostError):
        save_checkpoint()
        raise
    save_checkpoint()
    state.settle()


@dataclass
class _State:
    """All that changes while training."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    average: AveragedModel | None
    start: dict[str, Tensor]
    share_kept: float
    step: int = 0
    seconds: float = 0.0
    best: float | None = None

    @classmethod
    def new(cls, network: nn.Module, optimisation: Optimisation) -> _State:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = torch.optim.AdamW(
            _parameter_groups(network, optimisation), weight_decay=optimisation.weight_decay, fused=True
        )
        rule = get_ema_multi_avg_fn(optimisation.averaging)  # type: ignore[no-untyped-call]
        average = AveragedModel(network, multi_avg_fn=rule) if optimisation.averaging else None
        start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        return cls(network, optimiser, average, start, optimisation.share_kept)

    def move(self) -> None:
        """Move the weights along their gradients: one step."""
        self.optimiser.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        self.step += 1

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Inside, the network holds the weights that would be kept if training ended here."""
        kept = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.settle()
        try:
            yield
        finally:
            self.network.load_state_dict(kept)

    def settle(self) -> None:
        """Give the network the weights to keep."""
        end = self.network if self.average is None else self.average.module
        self.network.load_state_dict(
            {name: torch.lerp(self.start[name], tensor, self.share_kept) for name, tensor in end.state_dict().items()}
        )


def _find_gradients(
    task: Task, state: _State, optimisation: Optimisation, workers: Workers
) -> tuple[dict[str, float], int, list[str]]:
    """The gradients of a step; return its mean report, the images it saw and those it could not, over all processes."""
    for group in state.optimiser.param_groups:
        group["lr"] = group["peak_rate"] * rate_at(state.step, optimisation)
    parameters = list(task.network.parameters())
    device, batches = parameters[0].device, optimisation.batches_per_step
    state.optimiser.zero_grad(set_to_none=True)
    reports: list[dict[str, SupportsFloat]] = []
    images = 0
    unreadable: list[str] = []
    for batch in range(state.step * batches + workers.number, (state.step + 1) * batches, workers.count):
        result = task.loss(batch, autocast(device, optimisation.precision))
        reports.append({"loss": result.loss.detach(), **result.report})
        images += result.images
        unreadable += result.unreadable
        (result.loss / batches).backward()  # type: ignore[no-untyped-call]
    report = workers.mean({name: math.fsum(r[name] for r in reports) / len(reports) for name in reports[0]})
    workers.add_gradients(parameters)
    norm = nn.utils.clip_grad_norm_(parameters, optimisation.gradient_limit)
    for name, value in (("loss", report["loss"]), ("gradient of the loss", float(norm))):
        if not math.isfinite(value):
            raise TrainingError(
                f"the {name} is no longer finite at step {state.step}: start again with lower learning rates; "
                "a checkpoint from before stays as it was"
            )
    return report, images * workers.count, workers.gather(unreadable)


def _validate(state: _State, validation: Validation) -> float:
    with state.settled():
        score = validation.score()
        if state.best is None or score > state.best:
            state.best = score
            validation.keep()
    return score


def _parameter_groups(network: nn.Module, optimisation: Optimisation) -> list[dict[str, object]]:
    """The trunk learns at its own, lower rate."""
    trunk = [p for name, p in network.named_parameters() if name.startswith("trunk.")]
    heads = [p for name, p in network.named_parameters() if not name.startswith("trunk.")]
    return [
        {"params": trunk, "peak_rate": optimisation.trunk_rate},
        {"params": heads, "peak_rate": optimisation.head_rate},
    ]


def _optimiser_slots(network: nn.Module) -> Iterable[tuple[str, Tensor, str]]:
    for name, parameter in network.named_parameters():
        for slot in ("exp_avg", "exp_avg_sq"):
            yield f"optimiser.{slot}.{name}", parameter, slot


def _save_checkpoint(path: Path, state: _State, settings: dict[str, object]) -> None:
    tensors = {f"network.{name}": tensor.contiguous() for name, tensor in state.network.state_dict().items()}
    for key, parameter, slot in _optimiser_slots(state.network):
        if parameter in state.optimiser.state:
            tensors[key] = state.optimiser.state[parameter][slot].contiguous()
    if state.average is not None:
        tensors |= {f"average.{name}": tensor.contiguous() for name, tensor in state.average.state_dict().items()}
    about = {
        "format": CHECKPOINT_FORMAT,
        "step": state.step,
        "seconds": state.seconds,
        "best": state.best,
        "settings": settings,
    }
    write_atomically(path, save(tensors, {"geomatch": json.dumps(about, sort_keys=True)}))


def check_checkpoint(path: Path, recipe: Mapping[str, object], optimisation: Optimisation) -> None:
    """Raise InputError now, rather than once there is a network, if `train` could not resume from ``path``."""
    with _opened_checkpoint(path, _settings(recipe, optimisation)):
        pass


def _settings(recipe: Mapping[str, object], optimisation: Optimisation) -> dict[str, object]:
    return {"recipe": recipe, "optimisation": asdict(optimisation)}


def _load_checkpoint(path: Path, state: _State, settings: dict[str, object]) -> None:
    """Restore a state. Raises InputError if the file is missing, damaged or was made with other settings."""
    with _opened_checkpoint(path, settings) as (file, about):
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    state.step, state.seconds, state.best = int(about["step"]), float(about["seconds"]), about["best"]
    state.network.load_state_dict(_under("network.", tensors))
    if state.average is not None:
        state.average.load_state_dict(_under("average.", tensors))
    for key, parameter, slot in _optimiser_slots(state.network):
        if key in tensors:
            kept = state.optimiser.state[parameter]
            kept["step"] = torch.tensor(float(state.step), device=parameter.device)
            kept[slot] = torch.empty_like(parameter).copy_(tensors[key])


@contextmanager
def _opened_checkpoint(path: Path, settings: dict[str, object]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A checkpoint's tensors, still in the file, and what it says of itself. Raises as `_load_checkpoint`."""
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("geomatch", "{}"))
            if about.get("format") != CHECKPOINT_FORMAT:
                raise InputError(f"{path}: not a checkpoint of this version of geomatch")
            if difference := _first_difference(about["settings"], json.loads(json.dumps(settings))):
                raise InputError(
                    f"{path}: made with other settings: {difference}; resume with the command line that began it"
                )
            yield file, about
    except FileNotFoundError as error:
        raise InputError(f"{path}: no checkpoint to resume from") from error
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: a damaged checkpoint ({error})") from error


def _first_difference(kept: dict[str, Any], asked: dict[str, Any], within: str = "") -> str:
    """The first setting in which two sets of them differ, with both values; empty if they are the same."""
    for name in dict.fromkeys((*asked, *kept)):
        before, now = (settings.get(name, "absent") for settings in (kept, asked))
        if isinstance(before, dict) and isinstance(now, dict):
            if difference := _first_difference(before, now, f"{within}{name}."):
                return difference
        elif before != now:
            return f"{within}{name} was {before} and is now {now}"
    return ""


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
