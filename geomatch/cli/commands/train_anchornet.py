"""`geomatch train anchornet`: labelled photographs to anchors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geomatch.cli.console import notify, training_bar
from geomatch.cli.options import (
    PRESETS_OWN,
    Arithmetic,
    BatchesPerStep,
    CheckpointEvery,
    DeviceChoice,
    MaxUnreadable,
    PhotographsPerBatch,
    RecipeChoice,
    Seed,
    TrainingData,
    ViewSize,
    WeightsOut,
)
from geomatch.options import Device, Discriminability, Precision, Recipe, changed


def anchornet(
    data: TrainingData,
    init: Annotated[
        Path, typer.Option(help="Trunk to stand on: weights of geomatch's, or a pretrained trunk (safetensors).")
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
    filters: Annotated[
        int | None, typer.Option(min=1, help="Filters of each class, K.", show_default=PRESETS_OWN)
    ] = None,
    code_size: Annotated[
        int | None, typer.Option(min=1, help="Length of the class-agnostic code.", show_default=PRESETS_OWN)
    ] = None,
    mean_share: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="How much of their mean is taken from responses before they are coded; 1: the paper's.",
            show_default=PRESETS_OWN,
        ),
    ] = None,
    tap_size: Annotated[
        int | None, typer.Option(min=1, help="Principal components of each tap.", show_default=PRESETS_OWN)
    ] = None,
    stride: Annotated[
        int | None, typer.Option(min=4, help="Pixels between the cells of the grid.", show_default=PRESETS_OWN)
    ] = None,
    form: Annotated[
        Discriminability | None,
        typer.Option(help="Loss (1) as printed, without a lower bound, or ours.", show_default=PRESETS_OWN),
    ] = None,
    auxiliary: Annotated[
        float | None, typer.Option(min=0, help="Weight of loss (2).", show_default=PRESETS_OWN)
    ] = None,
    filter_diversity: Annotated[
        float | None, typer.Option(min=0, help="Weight of loss (3).", show_default=PRESETS_OWN)
    ] = None,
    response_diversity: Annotated[
        float | None, typer.Option(min=0, help="Weight of loss (4).", show_default=PRESETS_OWN)
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps for the banks.", show_default=PRESETS_OWN)] = None,
    code_steps: Annotated[
        int | None,
        typer.Option(min=0, help="Steps for the code; 0: principal components.", show_default=PRESETS_OWN),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0, help="Peak learning rate of the banks.", show_default=PRESETS_OWN)
    ] = None,
    trunk_rate: Annotated[
        float | None,
        typer.Option(min=0, help="Peak learning rate of the trunk; 0 leaves it as it is.", show_default=PRESETS_OWN),
    ] = None,
    batch: PhotographsPerBatch = None,
    accumulate: BatchesPerStep = None,
    size: ViewSize = None,
    held_out: Annotated[
        float | None,
        typer.Option(
            min=0, max=0.9, help="Share of the photographs kept back, for measuring.", show_default=PRESETS_OWN
        ),
    ] = None,
    seed: Seed = 0,
    precision: Arithmetic = Precision.auto,
    device: DeviceChoice = Device.auto,
    checkpoint_every: CheckpointEvery = 5.0,
    max_unreadable: MaxUnreadable = 0.01,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from OUT's checkpoints.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """AnchorNet: sparse, diverse anchors of each class from image labels alone, and their class-agnostic code.

    First the banks are learnt, then the code of their responses. Beside OUT go the checkpoint and the log of each:
    OUT.banks.checkpoint, OUT.code.log.jsonl and so on. Under torchrun the processes share the work.
    """
    from geomatch.datasets.pascal_ilsvrc import named_classes
    from geomatch.training.anchornet.task import train_anchornet
    from geomatch.training.recipes import ANCHOR_RECIPES

    recipe, optimisation = ANCHOR_RECIPES[preset]
    network = changed(
        recipe.network,
        classes=None if classes is None else named_classes(classes),
        filters=filters,
        code_size=code_size,
        mean_share=mean_share,
        tap_size=tap_size,
        stride=stride,
    )
    recipe = changed(
        recipe,
        network=network,
        view_size=size,
        photographs_per_step=batch,
        form=form,
        auxiliary=auxiliary,
        filter_diversity=filter_diversity,
        response_diversity=response_diversity,
        tuned=None if trunk_rate is None else trunk_rate > 0,
        code_steps=code_steps,
        held_out=held_out,
        seed=seed,
    )
    optimisation = changed(
        optimisation,
        steps=steps,
        batches_per_step=accumulate,
        head_rate=rate,
        trunk_rate=trunk_rate,
        precision=precision,
        checkpoint_minutes=checkpoint_every,
    )
    with training_bar(quiet=quiet) as show:
        try:
            train_anchornet(
                data,
                init,
                out,
                recipe,
                optimisation,
                device=device,
                resume=resume,
                max_unreadable=max_unreadable,
                on_progress=show,
            )
        except KeyboardInterrupt:
            if out.with_name(out.name + ".banks.checkpoint").is_file():
                notify("interrupted; --resume goes on from the checkpoints")
            raise
