"""`geomatch train anchornet`: labelled photographs to anchors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geomatch.cli.console import resumable_interrupt, training_bar
from geomatch.cli.options import DeviceChoice, Quiet, parse_assignments
from geomatch.cli.training_options import (
    ANCHORNET,
    PRESETS_OWN,
    BatchesPerStep,
    BatchSize,
    CheckpointEvery,
    MaxUnreadable,
    PrecisionChoice,
    RecipeChoice,
    Seed,
    TrainingData,
    ViewSize,
    WeightsOut,
    with_settings_option,
)
from geomatch.options import Device, Precision, Recipe


@with_settings_option(ANCHORNET)
def anchornet(
    data: TrainingData,
    init: Annotated[
        Path, typer.Option(help="Trunk to build on: weights of geomatch, or a pretrained trunk (safetensors).")
    ],
    out: WeightsOut,
    preset: RecipeChoice = Recipe.shipped,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES|FILE",
            help="Labels to learn anchors of, separated by commas or one on each line of a file; voc20, rigid: sets.",
            show_default=PRESETS_OWN,
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps for the banks.", show_default=PRESETS_OWN)] = None,
    batch: BatchSize = None,
    accumulate: BatchesPerStep = None,
    size: ViewSize = None,
    seed: Seed = 0,
    precision: PrecisionChoice = Precision.auto,
    device: DeviceChoice = Device.auto,
    checkpoint_every: CheckpointEvery = 5.0,
    max_unreadable: MaxUnreadable = 0.01,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from OUT's checkpoints.")] = False,
    quiet: Quiet = False,
    *,
    settings: list[str],
) -> None:
    """AnchorNet: sparse, diverse anchors of each class from image labels alone, and their class-agnostic code.

    First the banks are learnt, then the code of their responses. Beside OUT go the checkpoint and the log of each:
    OUT.banks.checkpoint, OUT.code.log.jsonl and so on. Under torchrun the processes share the work.
    """
    from geomatch.datasets.pascal_ilsvrc import named_classes
    from geomatch.training.anchornet.train import train_anchornet
    from geomatch.training.recipes import ANCHOR_RECIPES, with_settings
    from geomatch.training.trainer import TrainingRun

    recipe, optimisation = with_settings(
        *ANCHOR_RECIPES[preset],
        parse_assignments(settings),
        classes=None if classes is None else named_classes(classes),
        steps=steps,
        batch_size=batch,
        batches_per_step=accumulate,
        view_size=size,
        seed=seed,
        precision=precision,
        checkpoint_minutes=checkpoint_every,
    )
    run = TrainingRun(data, init, out, device=device, resume=resume, max_unreadable=max_unreadable)
    with (
        training_bar(quiet=quiet) as show,
        resumable_interrupt(run.files("banks").checkpoint, "--resume goes on from the checkpoints"),
    ):
        train_anchornet(run, recipe, optimisation, on_progress=show)
