"""`geomatch train`: photographs to weights."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geomatch.cli.commands.train_anchornet import anchornet
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
from geomatch.errors import InputError
from geomatch.options import Batches, Device, Precision, Recipe, changed

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
def introspection(
    data: TrainingData,
    init: Annotated[Path, typer.Option(help="Pretrained trunk to start from (safetensors).")],
    out: WeightsOut,
    preset: RecipeChoice = Recipe.shipped,
    trunk: Annotated[
        str | None, typer.Option(help="resnet50v2, resnet50 or resnet101.", show_default=PRESETS_OWN)
    ] = None,
    stage: Annotated[
        int | None, typer.Option(min=1, max=4, help="Stage of the trunk the heads stand on.", show_default=PRESETS_OWN)
    ] = None,
    descriptor_size: Annotated[
        int | None, typer.Option(min=1, help="Length of a descriptor.", show_default=PRESETS_OWN)
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps to train for.", show_default=PRESETS_OWN)] = None,
    warm_up: Annotated[
        int | None, typer.Option(min=0, help="Steps of linear warm-up.", show_default=PRESETS_OWN)
    ] = None,
    batch: PhotographsPerBatch = None,
    accumulate: BatchesPerStep = None,
    average: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.9999,
            help="Decay of a moving average of the weights; 0: the last weights.",
            show_default=PRESETS_OWN,
        ),
    ] = None,
    share_kept: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Keep the weights this far on the way from the start of training to its end; 1: the end.",
            show_default=PRESETS_OWN,
        ),
    ] = None,
    batches: Annotated[
        Batches | None, typer.Option(help="Whether a batch's photographs share a label.", show_default=PRESETS_OWN)
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Labels to learn from, separated by commas; rigid: the paper's 12; voc20: VOC's; all: no choice.",
            show_default=PRESETS_OWN,
        ),
    ] = None,
    size: ViewSize = None,
    trunk_rate: Annotated[
        float | None, typer.Option(min=0, help="Peak learning rate of the trunk.", show_default=PRESETS_OWN)
    ] = None,
    head_rate: Annotated[
        float | None, typer.Option(min=0, help="Peak learning rate of the heads.", show_default=PRESETS_OWN)
    ] = None,
    keep_similarity: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Weight of keeping the initial network's similarities; 0: the paper's loss.",
            show_default=PRESETS_OWN,
        ),
    ] = None,
    classifier: Annotated[
        Path | None,
        typer.Option(help="ImageNet MobileNet v1 (safetensors, Keras' names) whose similarities are kept too."),
    ] = None,
    crops: Annotated[
        Path | None, typer.Option(help="Table that `geomatch crops` wrote: learn from what lies in its boxes.")
    ] = None,
    seed: Seed = 0,
    precision: Arithmetic = Precision.auto,
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
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Probabilistic Introspection: geometrically stable descriptors that know how sure they are.

    Beside OUT go its checkpoint (OUT.checkpoint) and its log (OUT.log.jsonl). Under torchrun the processes share the
    work, and the training is that of one process. With --val, OUT holds the weights of the best mean PCK@.10 so far.
    """
    from geomatch.datasets.pascal_ilsvrc import named_classes
    from geomatch.evaluation.validation import validation_score
    from geomatch.training.introspection.task import train_introspection
    from geomatch.training.recipes import RECIPES
    from geomatch.training.tensorboard import TensorBoard
    from geomatch.training.trainer import Progress

    benchmarks = [_validation_pairs(text) for text in val or ()]
    recipe, optimisation = RECIPES[preset]
    network = changed(recipe.network, trunk=trunk, stage=stage, descriptor_size=descriptor_size)
    recipe = changed(
        recipe,
        network=network,
        view_size=size,
        photographs_per_step=batch,
        batches=batches,
        classes=None if classes is None else named_classes(classes),
        keep_similarity=keep_similarity,
        seed=seed,
    )
    optimisation = changed(
        optimisation,
        steps=steps,
        batches_per_step=accumulate,
        averaging=average,
        share_kept=share_kept,
        warm_up=warm_up,
        trunk_rate=trunk_rate,
        head_rate=head_rate,
        precision=precision,
        checkpoint_minutes=checkpoint_every,
    )
    board = TensorBoard(tensorboard) if tensorboard else nullcontext()
    with board as tell, training_bar(quiet=quiet) as show_on_bar:

        def show(progress: Progress) -> None:
            show_on_bar("training", progress)
            if tell:
                tell(progress)

        try:
            train_introspection(
                data,
                init,
                out,
                recipe,
                optimisation,
                device=device,
                resume=resume,
                classifier=classifier,
                crops=crops,
                max_unreadable=max_unreadable,
                on_progress=show,
                validate=(lambda network: validation_score(network, benchmarks)) if benchmarks else None,
                validate_every=val_every,
            )
        except KeyboardInterrupt:
            checkpoint = out.with_name(out.name + ".checkpoint")
            if checkpoint.is_file():
                notify(f"interrupted; --resume goes on from {checkpoint}")
            raise


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
