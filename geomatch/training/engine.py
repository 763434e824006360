"""The training loop: optimiser, schedule, mixed precision, checkpoints, log. What is learnt is the task's affair."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from geomatch.errors import InputError, TrainingError
from geomatch.io.atomic import write_atomically
from geomatch.settings import Precision

CHECKPOINT_FORMAT = "geomatch-checkpoint-1"


@dataclass(frozen=True)
class StepLoss:
    """A step's scalar loss, the numbers to report with it, and how many images went through the network."""

    loss: Tensor
    report: dict[str, float]
    images: int


class Task(Protocol):
    """What can be trained: a network and the loss of a step, which must depend on nothing but the step's number."""

    @property
    def network(self) -> nn.Module: ...

    def loss(self, step: int, autocast: AbstractContextManager[object]) -> StepLoss:
        """The loss of a step; the network's forward pass belongs inside ``autocast``, the loss itself outside."""
        ...


@dataclass(frozen=True)
class Optimisation:
    """How long and how fast to learn."""

    steps: int = 2400
    warm_up: int = 100
    trunk_rate: float = 3e-5
    head_rate: float = 1e-4
    weight_decay: float = 1e-4
    gradient_limit: float = 5.0
    precision: Precision = Precision.auto
    checkpoint_minutes: float = 5.0


@dataclass(frozen=True)
class Progress:
    """Where training stands after a step; ``report`` holds the loss and what the task tells of it."""

    step: int
    steps: int
    report: dict[str, float]
    images_per_second: float
    seconds_left: float


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
) -> None:
    """Train ``task.network`` in place.

    recipe: what a checkpoint must have been made with to be resumed. Every ``checkpoint_minutes``, at the end and
    when interrupted, the state goes to ``checkpoint``; every step adds a line of JSON to ``log``.

    Raises TrainingError when the loss is no longer finite, InputError when the checkpoint cannot be resumed.
    """
    network = task.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(_parameter_groups(network, optimisation), weight_decay=optimisation.weight_decay)
    settings: dict[str, object] = {"recipe": recipe, "optimisation": asdict(optimisation)}
    first, seconds_before = 0, 0.0
    if resume:
        first, seconds_before = _load_checkpoint(checkpoint, network, optimiser, settings)
    _keep_log_before(log, first)
    finished = first
    started = saved = time.monotonic()

    def save_checkpoint() -> None:
        seconds = seconds_before + time.monotonic() - started
        _save_checkpoint(checkpoint, network, optimiser, finished, seconds, settings)

    try:
        with log.open("a", buffering=1, encoding="utf-8") as lines:
            for step in range(first, optimisation.steps):
                began = time.monotonic()
                result = _take_step(task, optimiser, optimisation, step)
                finished = step + 1
                report = {"loss": float(result.loss.detach()), **result.report}
                now = time.monotonic()
                lines.write(json.dumps({"step": step, **report, "seconds": round(now - began, 4)}) + "\n")
                pace = (now - started) / (finished - first)
                left = pace * (optimisation.steps - finished)
                on_progress(Progress(finished, optimisation.steps, report, result.images / pace, left))
                if now - saved > 60 * optimisation.checkpoint_minutes:
                    save_checkpoint()
                    saved = now
    except KeyboardInterrupt:
        save_checkpoint()
        raise
    save_checkpoint()


def _take_step(task: Task, optimiser: torch.optim.Optimizer, optimisation: Optimisation, step: int) -> StepLoss:
    for group in optimiser.param_groups:
        group["lr"] = group["peak_rate"] * rate_at(step, optimisation)
    parameters = list(task.network.parameters())
    result = task.loss(step, autocast(parameters[0].device, optimisation.precision))
    if not torch.isfinite(result.loss):
        raise TrainingError(
            f"the loss is no longer finite at step {step}: lower the learning rates, or resume from the last checkpoint"
        )
    optimiser.zero_grad(set_to_none=True)
    result.loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(parameters, optimisation.gradient_limit)
    optimiser.step()
    return result


def _keep_log_before(log: Path, step: int) -> None:
    """Drop from a log what came after the checkpoint that training resumes from; without one, everything."""
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)[:step] if step and log.is_file() else []
    log.write_text("".join(lines), encoding="utf-8")


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


def _save_checkpoint(
    path: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    step: int,
    seconds: float,
    recipe: dict[str, object],
) -> None:
    tensors = {f"network.{name}": tensor.contiguous() for name, tensor in network.state_dict().items()}
    for key, parameter, slot in _optimiser_slots(network):
        if parameter in optimiser.state:
            tensors[key] = optimiser.state[parameter][slot].contiguous()
    about = {"format": CHECKPOINT_FORMAT, "step": step, "seconds": seconds, "recipe": recipe}
    write_atomically(path, save(tensors, {"geomatch": json.dumps(about, sort_keys=True)}))


def _load_checkpoint(
    path: Path, network: nn.Module, optimiser: torch.optim.Optimizer, recipe: dict[str, object]
) -> tuple[int, float]:
    """Restore network and optimiser; return the number of steps done and the seconds they took."""
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("geomatch", "{}"))
            if about.get("format") != CHECKPOINT_FORMAT:
                raise InputError(f"{path}: not a checkpoint of this version of geomatch")
            if about["recipe"] != json.loads(json.dumps(recipe)):
                raise InputError(f"{path}: made with other settings; resume with the command line that began it")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no checkpoint to resume from") from error
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: a damaged checkpoint ({error})") from error
    step = int(about["step"])
    network.load_state_dict({n.removeprefix("network."): t for n, t in tensors.items() if n.startswith("network.")})
    for key, parameter, slot in _optimiser_slots(network):
        if key in tensors:
            state = optimiser.state[parameter]
            state["step"] = torch.tensor(float(step))
            state[slot] = torch.empty_like(parameter).copy_(tensors[key])
    return step, float(about["seconds"])
