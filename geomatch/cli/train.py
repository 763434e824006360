"""`geomatch train`: photographs to weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geomatch.cli.console import stderr_console
from geomatch.errors import InputError
from geomatch.settings import Batches, Device, Precision

if TYPE_CHECKING:
    from geomatch.datasets.pairs import PairDataset

app = typer.Typer(help="Train weights from photographs.", no_args_is_help=True)


@app.callback()
def _group() -> None: ...


@app.command()
def introspection(
    data: Annotated[
        list[Path], typer.Option(help="Folder of photographs, folder of .tar shards, or one shard; repeatable.")
    ],
    init: Annotated[Path, typer.Option(help="Pretrained trunk to start from (safetensors).")],
    out: Annotated[Path, typer.Option(help="Weights file to write (safetensors).")],
    trunk: Annotated[str, typer.Option(help="resnet50v2, resnet50 or resnet101.")] = "resnet50v2",
    stage: Annotated[int, typer.Option(min=1, max=4, help="Stage of the trunk the heads stand on.")] = 3,
    descriptor_size: Annotated[int, typer.Option(min=1, help="Length of a descriptor.")] = 256,
    steps: Annotated[int, typer.Option(min=1, help="Steps to train for.")] = 2400,
    warm_up: Annotated[int, typer.Option(min=0, help="Steps of linear warm-up.")] = 100,
    batch: Annotated[int, typer.Option(min=1, help="Photographs a batch; each gives two views.")] = 4,
    accumulate: Annotated[
        int, typer.Option(min=1, help="Batches whose gradients make one step; shared out among torchrun's processes.")
    ] = 1,
    average: Annotated[
        float, typer.Option(min=0, max=0.9999, help="Decay of a moving average of the weights; 0: the last weights.")
    ] = 0.0,
    batches: Annotated[Batches, typer.Option(help="Whether a batch's photographs share a label.")] = Batches.one_class,
    size: Annotated[int, typer.Option(min=64, help="Side of the square views, in pixels.")] = 224,
    trunk_rate: Annotated[float, typer.Option(min=0, help="Peak learning rate of the trunk.")] = 3e-5,
    head_rate: Annotated[float, typer.Option(min=0, help="Peak learning rate of the heads.")] = 1e-4,
    keep_similarity: Annotated[
        float, typer.Option(min=0, help="Weight of keeping the initial network's similarities; 0: the paper's loss.")
    ] = 100.0,
    classifier: Annotated[
        Path | None,
        typer.Option(help="ImageNet MobileNet v1 (safetensors, Keras' names) whose similarities are kept too."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of photographs, warps and points.")] = 0,
    precision: Annotated[Precision, typer.Option(help="Arithmetic of the network.")] = Precision.auto,
    device: Annotated[Device, typer.Option(help="Where to compute.")] = Device.auto,
    checkpoint_every: Annotated[float, typer.Option(min=0, help="Minutes between checkpoints.")] = 5.0,
    max_unreadable: Annotated[
        float, typer.Option(min=0, max=1, help="Share of photographs that may be damaged; they are named in the log.")
    ] = 0.01,
    val: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="Benchmark to validate on (split val, or the only one); repeatable."),
    ] = None,
    val_every: Annotated[int, typer.Option(min=1, help="Steps between validations.")] = 400,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from OUT's checkpoint.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Probabilistic Introspection: geometrically stable descriptors that know how sure they are.

    Beside OUT go its checkpoint (OUT.checkpoint) and its log (OUT.log.jsonl). Under torchrun the processes share the
    work, and the training is that of one process. With --val, OUT holds the weights of the best mean PCK@.10 so far.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as ProgressBar

    from geomatch.evaluation.validation import validation_score
    from geomatch.features.introspection import IntrospectionConfig
    from geomatch.training.engine import Optimisation, Progress
    from geomatch.training.introspection import IntrospectionRecipe, train_introspection

    benchmarks = [_validation_pairs(text) for text in val or ()]

    recipe = IntrospectionRecipe(
        network=IntrospectionConfig(trunk=trunk, stage=stage, descriptor_size=descriptor_size),
        view_size=size,
        photographs_per_step=batch,
        batches=batches,
        keep_similarity=keep_similarity,
        seed=seed,
    )
    optimisation = Optimisation(
        steps=steps,
        batches_per_step=accumulate,
        averaging=average,
        warm_up=warm_up,
        trunk_rate=trunk_rate,
        head_rate=head_rate,
        precision=precision,
        checkpoint_minutes=checkpoint_every,
    )
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[said]}"),
    )
    with ProgressBar(*columns, console=stderr_console(quiet=quiet)) as bar:
        shown = bar.add_task("training", total=steps, said="")

        def show(progress: Progress) -> None:
            numbers = "  ".join(f"{name} {value:.3f}" for name, value in progress.report.items())
            bar.update(shown, completed=progress.step, said=f"{numbers}  {progress.images_per_second:.1f} images/s")

        train_introspection(
            data,
            init,
            out,
            recipe,
            optimisation,
            device=device,
            resume=resume,
            classifier=classifier,
            max_unreadable=max_unreadable,
            on_progress=show,
            validate=(lambda network: validation_score(network, benchmarks)) if benchmarks else None,
            validate_every=val_every,
        )


def _validation_pairs(text: str) -> PairDataset:
    from geomatch.datasets.registry import choose_split, find_benchmark, find_root, load_dataset

    name, given, folder = text.partition("=")
    if not given or not folder:
        raise InputError(f"--val {text}: write NAME=DIR, as spair-71k=SPair-71k")
    benchmark = find_benchmark(name)
    root = find_root(benchmark, Path(folder))
    split = "val" if "val" in benchmark.splits(root) else choose_split(benchmark, root, None)
    return load_dataset(name, root, split=split)
