"""`geomatch train`: photographs to weights."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geomatch.cli.commands.train_anchornet import anchornet
from geomatch.cli.console import resumable_interrupt, training_bar
from geomatch.cli.options import DeviceChoice, Quiet, parse_assignments
from geomatch.cli.training_options import (
    INTROSPECTION,
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
from geomatch.errors import InputError
from geomatch.options import Device, Precision, Recipe

if TYPE_CHECKING:
    from geomatch.datasets.pairs import PairDataset

app = typer.Typer(help="Train weights from photographs.", no_args_is_help=True)
app.command()(anchornet)


@app.callback(invoke_without_command=True)
def _group(
    context: typer.Context,
    plot: Annotated[
        list[Path] | None,
        typer.Option(metavar="LOG", help="Draw the log of a training, running or done, instead; repeatable."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PAGE.html", help="Where the drawing goes.", show_default="LOG.html"),
    ] = None,
) -> None:
    if context.invoked_subcommand is None:
        if not plot:
            raise InputError("give --plot LOG, or what to train")
        _draw(plot, output)
    elif plot or output:
        raise InputError("--plot and --output draw logs; give them without training")


@app.command()
@with_settings_option(INTROSPECTION)
def introspection(
    data: TrainingData,
    init: Annotated[Path, typer.Option(help="Pretrained trunk to start from (safetensors).")],
    out: WeightsOut,
    preset: RecipeChoice = Recipe.shipped,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Labels to learn from, separated by commas; rigid: the paper's 12; voc20: VOC's; all: no choice.",
            show_default=PRESETS_OWN,
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps to train for.", show_default=PRESETS_OWN)] = None,
    batch: BatchSize = None,
    accumulate: BatchesPerStep = None,
    size: ViewSize = None,
    classifier: Annotated[
        Path | None,
        typer.Option(help="ImageNet MobileNet v1 (safetensors, Keras' names) whose similarities are kept, too."),
    ] = None,
    crops: Annotated[
        Path | None, typer.Option(help="Table that `geomatch crops` wrote: learn from what lies in its boxes.")
    ] = None,
    seed: Seed = 0,
    precision: PrecisionChoice = Precision.auto,
    device: DeviceChoice = Device.auto,
    checkpoint_every: CheckpointEvery = 5.0,
    max_unreadable: MaxUnreadable = 0.01,
    val: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="Benchmark to validate on (split val, or the only one); repeatable."),
    ] = None,
    val_every: Annotated[int, typer.Option(min=1, help="Steps between validations.")] = 400,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from OUT's checkpoint.")] = False,
    tensorboard: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Log for TensorBoard, too, if that is installed.")
    ] = None,
    quiet: Quiet = False,
    *,
    settings: list[str],
) -> None:
    """Probabilistic Introspection: geometrically stable descriptors, and how reliable each one is.

    Beside OUT go its checkpoint (OUT.checkpoint) and its log (OUT.log.jsonl). Under torchrun the processes share the
    work, and the training is that of one process. With --val, OUT holds the weights of the best mean PCK@.10 so far.
    """
    from geomatch.datasets.pascal_ilsvrc import named_classes
    from geomatch.evaluation.validation import validation_score
    from geomatch.training.introspection.train import train_introspection
    from geomatch.training.recipes import RECIPES, with_settings
    from geomatch.training.tensorboard import TensorBoard
    from geomatch.training.trainer import Progress, TrainingRun

    benchmarks = [_validation_pairs(text) for text in val or ()]
    recipe, optimisation = with_settings(
        *RECIPES[preset],
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
    board = TensorBoard(tensorboard) if tensorboard else nullcontext()
    with (
        board as log_to_board,
        training_bar(quiet=quiet) as show_on_bar,
        resumable_interrupt(run.files().checkpoint, f"--resume goes on from {run.files().checkpoint}"),
    ):

        def show(progress: Progress) -> None:
            show_on_bar("training", progress)
            if log_to_board:
                log_to_board(progress)

        train_introspection(
            run,
            recipe,
            optimisation,
            classifier=classifier,
            crops=crops,
            on_progress=show,
            validate=(lambda network: validation_score(network, benchmarks)) if benchmarks else None,
            validate_every=val_every,
        )


def _draw(logs: list[Path], output: Path | None) -> None:
    from geomatch.io.atomic import write_atomically
    from geomatch.training.log import read_log
    from geomatch.training.plot import training_page

    output = output or logs[0].with_suffix(".html")
    if output.suffix != ".html":
        raise InputError(f"{output}: the drawing is a page; give a name that ends in .html")
    page = training_page({str(log).removesuffix(".log.jsonl"): read_log(log) for log in logs})
    write_atomically(output, page.encode())
    typer.echo(output)


def _validation_pairs(text: str) -> PairDataset:
    from geomatch.datasets.load import choose_split, find_benchmark, find_root, load_dataset

    name, given, folder = text.partition("=")
    if not given or not folder:
        raise InputError(f"--val {text}: write NAME=DIR, as spair-71k=SPair-71k")
    benchmark = find_benchmark(name)
    root = find_root(benchmark, Path(folder))
    split = "val" if "val" in benchmark.splits(root) else choose_split(benchmark, root, None)
    return load_dataset(name, root, split=split)
