"""The state of a training, and the file it is saved in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from geomatch.errors import InputError
from geomatch.io.atomic import write_atomically

CHECKPOINT_FORMAT = "geomatch-checkpoint-3"


@dataclass
class TrainingState:
    """All that changes during a training. initial: the weights it began with. best: the best validation score."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    average: AveragedModel | None
    initial: dict[str, Tensor]
    wise_ft_alpha: float
    step: int = 0
    seconds: float = 0.0
    best: float | None = None

    def advance(self, constrain: Callable[[], None]) -> None:
        """Move the weights along their gradients, one step, and back to where they may be."""
        self.optimiser.step()
        constrain()
        if self.average is not None:
            self.average.update_parameters(self.network)
        self.step += 1

    @contextmanager
    def final_weights(self) -> Iterator[None]:
        """Inside, the network holds the weights that it would end with if training stopped here."""
        current = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.load_final_weights()
        try:
            yield
        finally:
            self.network.load_state_dict(current)

    def load_final_weights(self) -> None:
        """Give the network the weights that training ends with: averaged, and interpolated as in WiSE-FT."""
        end = self.network if self.average is None else self.average.module
        self.network.load_state_dict(
            {
                name: torch.lerp(self.initial[name], tensor, self.wise_ft_alpha)
                for name, tensor in end.state_dict().items()
            }
        )

    def moments(self) -> Iterable[tuple[str, Tensor, str]]:
        """What the optimiser keeps of each parameter: its name in the file, the parameter, the optimiser's name."""
        for name, parameter in self.network.named_parameters():
            for moment in ("exp_avg", "exp_avg_sq"):
                yield f"optimiser.{moment}.{name}", parameter, moment


def save_checkpoint(path: Path, state: TrainingState, settings: Mapping[str, object]) -> None:
    """Save a state, and the settings that it was trained with. Raises InputError if the file cannot be written."""
    tensors = {f"network.{name}": tensor.contiguous() for name, tensor in state.network.state_dict().items()}
    for key, parameter, moment in state.moments():
        if parameter in state.optimiser.state:
            tensors[key] = state.optimiser.state[parameter][moment].contiguous()
    if state.average is not None:
        tensors |= {f"average.{name}": tensor.contiguous() for name, tensor in state.average.state_dict().items()}
    metadata = {
        "format": CHECKPOINT_FORMAT,
        "step": state.step,
        "seconds": state.seconds,
        "best": state.best,
        "settings": settings,
    }
    write_atomically(path, save(tensors, {"geomatch": json.dumps(metadata, sort_keys=True)}))


def check_checkpoint(path: Path, settings: Mapping[str, object]) -> None:
    """Raise InputError, before the network is loaded, if training cannot resume from ``path``."""
    with _opened(path, settings):
        pass


def load_checkpoint(path: Path, state: TrainingState, settings: Mapping[str, object]) -> None:
    """Restore a state. Raises InputError if the file is missing, damaged or was made with other settings."""
    with _opened(path, settings) as (file, metadata):
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    state.step, state.seconds, state.best = int(metadata["step"]), float(metadata["seconds"]), metadata["best"]
    state.network.load_state_dict(_under("network.", tensors))
    if state.average is not None:
        state.average.load_state_dict(_under("average.", tensors))
    for key, parameter, moment in state.moments():
        if key in tensors:
            kept = state.optimiser.state[parameter]
            kept["step"] = torch.tensor(float(state.step), device=parameter.device)
            kept[moment] = torch.empty_like(parameter).copy_(tensors[key])


@contextmanager
def _opened(path: Path, settings: Mapping[str, object]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A checkpoint's open file and its metadata. Raises as `load_checkpoint`."""
    try:
        with safe_open(path, "pt") as file:
            metadata = json.loads((file.metadata() or {}).get("geomatch", "{}"))
            if metadata.get("format") != CHECKPOINT_FORMAT:
                raise InputError(f"{path}: not a checkpoint of this version of geomatch")
            if difference := _first_difference(metadata["settings"], json.loads(json.dumps(settings))):
                raise InputError(
                    f"{path}: made with other settings: {difference}; resume with the command line that began it"
                )
            yield file, metadata
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
