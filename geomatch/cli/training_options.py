"""Options that the training commands share, and the settings that ``--set`` takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from geomatch.options import Precision, Recipe

PRESETS_OWN = "the preset's"
"""What an option that changes a preset shows as its default."""

TrainingData = Annotated[
    list[Path], typer.Option(help="Folder of photographs, folder of .tar shards, or one shard; repeatable.")
]
WeightsOut = Annotated[Path, typer.Option(help="Weights file to write (safetensors).")]
PrecisionChoice = Annotated[Precision, typer.Option(help="Arithmetic of the network.")]
CheckpointEvery = Annotated[float, typer.Option(min=0, help="Minutes between checkpoints.")]
MaxUnreadable = Annotated[
    float, typer.Option(min=0, max=1, help="Share of photographs that may be damaged; they are named in the log.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")]
RecipeChoice = Annotated[
    Recipe,
    typer.Option(help="Settings to start from: those of the shipped weights or of the paper; options change them."),
]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Photographs a batch; each gives two views.", show_default=PRESETS_OWN)
]
BatchesPerStep = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Batches whose gradients make one step; shared out among torchrun's processes.",
        show_default=PRESETS_OWN,
    ),
]
ViewSize = Annotated[
    int | None, typer.Option(min=64, help="Side of the square views, in pixels.", show_default=PRESETS_OWN)
]


@dataclass(frozen=True)
class TrainingSettings:
    """The settings that a training command takes by ``--set``: those that have no option of their own.

    names: fields of the recipe, its parts and the optimisation. old_options: options of version 0.1 that set one of
    them; they still work, but are hidden.
    """

    names: tuple[str, ...]
    old_options: Mapping[str, str]


_AUGMENTATION = (
    *("smallest_view", "largest_view", "rotation_degrees", "aspect", "shear", "perspective", "translation"),
    *("brightness", "contrast", "saturation", "tint", "shading", "grey_probability"),
)
_OPTIMISATION = (
    "ema_decay",
    "wise_ft_alpha",
    "warmup_steps",
    "trunk_learning_rate",
    "head_learning_rate",
    "weight_decay",
    "max_gradient_norm",
)

INTROSPECTION = TrainingSettings(
    names=(
        "trunk",
        "stage",
        "descriptor_size",
        "sigma_floor",
        "sigma_ceiling",
        "batches",
        "points",
        "hardest",
        "positive_radius",
        "negative_radius",
        "similarity_weight",
        "similarity_cells",
        "teacher_size",
        "classifier_block",
        "classifier_weight",
        *_OPTIMISATION,
        *_AUGMENTATION,
    ),
    old_options={
        "--trunk": "trunk",
        "--stage": "stage",
        "--descriptor-size": "descriptor_size",
        "--warm-up": "warmup_steps",
        "--average": "ema_decay",
        "--share-kept": "wise_ft_alpha",
        "--batches": "batches",
        "--trunk-rate": "trunk_learning_rate",
        "--head-rate": "head_learning_rate",
        "--keep-similarity": "similarity_weight",
    },
)
ANCHORNET = TrainingSettings(
    names=(
        "stages",
        "tap_size",
        "stride",
        "filters",
        "code_size",
        "mean_share",
        "discriminability",
        "auxiliary",
        "filter_diversity",
        "response_diversity",
        "dropout",
        "code_steps",
        "code_learning_rate",
        "held_out",
        "example_size",
        *_OPTIMISATION,
        *_AUGMENTATION,
    ),
    old_options={
        "--filters": "filters",
        "--code-size": "code_size",
        "--mean-share": "mean_share",
        "--tap-size": "tap_size",
        "--stride": "stride",
        "--form": "discriminability",
        "--auxiliary": "auxiliary",
        "--filter-diversity": "filter_diversity",
        "--response-diversity": "response_diversity",
        "--code-steps": "code_steps",
        "--rate": "head_learning_rate",
        "--trunk-rate": "trunk_learning_rate",
        "--held-out": "held_out",
    },
)


def with_settings_option(settings: TrainingSettings) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command ``--set`` and the hidden old options; its parameter ``settings`` gets the texts of them all."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True)
        added = [_option("settings", list[str], "--set", metavar="NAME=VALUE", help=_help(settings))]
        added += [_option(_parameter(old), str, old, hidden=True) for old in settings.old_options]

        @wraps(command)
        def run(**given: Any) -> None:
            old = {name: given.pop(_parameter(option)) for option, name in settings.old_options.items()}
            texts = [f"{name}={text}" for name, text in old.items() if text is not None]
            given["settings"] = [*texts, *(given["settings"] or ())]
            command(**given)

        parameters = [each for each in own.parameters.values() if each.name != "settings"]
        run.__signature__ = own.replace(parameters=[*parameters, *added])  # type: ignore[attr-defined]
        return run

    return decorate


def _option(name: str, kind: Any, *declared: str, **about: Any) -> inspect.Parameter:
    annotation = Annotated[kind | None, typer.Option(*declared, **about)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _parameter(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")


def _help(settings: TrainingSettings) -> str:
    return f"Another setting; repeatable. One of {', '.join(settings.names)}."
