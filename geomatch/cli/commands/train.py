"""`geomatch train`: photographs to weights; `geomatch convert`: weights of PyTorch to safetensors."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geomatch.cli.console import counting_bar, notify, training_bar
from geomatch.cli.options import DeviceChoice, Overwrite, Quiet
from geomatch.cli.training_options import (
    ANCHORNET,
    DISTILLED,
    INTROSPECTION,
    KEYPOINTS,
    SCNET,
    TrainingOptions,
    of_preset,
    training_options,
)
from geomatch.errors import InputError
from geomatch.options import Device, Precision, Preset

if TYPE_CHECKING:
    from geomatch.pipeline import Pipeline

Photographs = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="Photographs of the COCO files: a folder, of images or .tar shards.",
        show_default="the folder of each file",
    ),
]

app = typer.Typer(help="Train weights from photographs.", no_args_is_help=True)


@app.callback(invoke_without_command=True)
def _group(
    context: typer.Context,
    plot: Annotated[
        list[Path] | None,
        typer.Option(metavar="LOG", help="Draw the log of a training, running or finished; repeatable."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PAGE.html", help="Page to write.", show_default="LOG.html"),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    if context.invoked_subcommand is None:
        if not plot:
            raise InputError("give --plot LOG, or what to train")
        _draw(plot, output, overwrite=overwrite)
    elif plot or output or overwrite:
        raise InputError("--plot, --output and --overwrite before what to train draw logs; give them without training")


@app.command()
@training_options(ANCHORNET)
def anchornet(training: TrainingOptions) -> None:
    """AnchorNet: sparse, diverse anchors of each class from image labels alone, and their class-agnostic code.

    First the banks are learnt, then the code of their responses. Beside OUT go the checkpoint and the log of each:
    OUT.banks.checkpoint, OUT.code.log.jsonl and so on. Under torchrun the processes share the work. With --val, both
    parts are scored, and OUT holds the code of the best mean PCK@.10.
    """
    from geomatch.training.anchornet.train import train_anchornet
    from geomatch.training.recipes import ANCHOR_RECIPES

    validate = training.validation()
    recipe, optimisation = training.recipe(ANCHOR_RECIPES)
    with training_bar(training.out, quiet=training.quiet) as show, training.resumable("banks"):
        train_anchornet(
            training.run(),
            recipe,
            optimisation,
            crops=training.crops,
            on_progress=show,
            validate=validate,
            validate_every=training.val_every,
        )


@app.command()
@training_options(INTROSPECTION)
def introspection(
    training: TrainingOptions,
    teacher: Annotated[
        list[Path] | None,
        typer.Option(
            "--teacher",
            "--classifier",
            metavar="FILE",
            help="A teacher of similarities beside the initial network (safetensors, .pth): MobileNet v1 (Keras' "
            "names), a vision transformer (timm's), or geomatch's weights; repeatable.",
        ),
    ] = None,
    points: Annotated[
        int | None, of_preset("Corresponding points of the two views of a photograph; the paper's: 700.", min=1)
    ] = None,
    hardest: Annotated[
        int | None, of_preset("Points of the second view whose mismatches count, the hardest; the paper's: 30.", min=1)
    ] = None,
    positive_radius: Annotated[
        float | None, of_preset("Pixels up to which two points correspond; the paper's: 1.", min=0)
    ] = None,
    negative_radius: Annotated[
        float | None,
        of_preset("Pixels beyond which they do not; pairs between are ignored; the paper's: 30.", min=0),
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of a log for TensorBoard, which must be installed.")
    ] = None,
) -> None:
    """Probabilistic Introspection: geometrically stable descriptors, and how reliable each one is.

    Beside OUT go its checkpoint (OUT.checkpoint) and its log (OUT.log.jsonl). Under torchrun the processes share the
    work, and the training is that of one process. With --val, OUT holds the weights of the best mean PCK@.10 so far.
    """
    from geomatch.training.introspection.train import train_introspection
    from geomatch.training.monitoring.tensorboard import TensorBoard
    from geomatch.training.recipes import RECIPES
    from geomatch.training.trainer import Progress

    validate = training.validation()
    recipe, optimisation = training.recipe(
        RECIPES, points=points, hardest=hardest, positive_radius=positive_radius, negative_radius=negative_radius
    )
    board = TensorBoard(tensorboard) if tensorboard else nullcontext()
    with board as log_to_board, training_bar(training.out, quiet=training.quiet) as show_on_bar, training.resumable():

        def show(progress: Progress) -> None:
            show_on_bar("training", progress)
            if log_to_board:
                log_to_board(progress)

        train_introspection(
            training.run(),
            recipe,
            optimisation,
            teachers=teacher or (),
            crops=training.crops,
            on_progress=show,
            validate=validate,
            validate_every=training.val_every,
        )


@app.command()
@training_options(KEYPOINTS)
def keypoints(
    training: TrainingOptions,
    images: Photographs = None,
    matches: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Photographs without keypoints (a folder, of images or .tar shards), whose confident matches by INIT "
            "are learnt from, too; repeatable.",
        ),
    ] = None,
) -> None:
    """Supervised features: a network of introspection that learns on from corresponding keypoints.

    Its heads learn; with --set trunk_learning_rate=1e-4 all layers do. A COCO file's pairs are drawn within a category
    and across categories, by the names of keypoints; a benchmark's are those of its list for training. Load OUT by
    --features keypoints --weights OUT.
    """
    from geomatch.training.keypoints.train import Matching, train_keypoints
    from geomatch.training.recipes import KEYPOINT_RECIPES

    validate = training.validation()
    recipe, optimisation = training.recipe(KEYPOINT_RECIPES)
    with training_bar(training.out, quiet=training.quiet) as show, training.resumable():
        train_keypoints(
            training.run(),
            recipe,
            optimisation,
            images=images,
            matching=Matching(matches, partial(_matcher, training.device, None)) if matches else None,
            on_progress=show,
            validate=validate,
            validate_every=training.val_every,
        )


@app.command()
@training_options(DISTILLED)
def distilled(
    training: TrainingOptions,
    matched_by: Annotated[
        str | None,
        typer.Option(
            metavar="PRESET|FEATURES",
            help="Preset, or shipped features with a closer look, that matches the photographs instead of INIT.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Features distilled from matches: a network of introspection learns on from where it is sure. No label is read.

    Photographs are matched with others like them, by INIT and the matcher of preset default. The heads learn from
    matches of high confidence: each descriptor comes to say alone what took its neighbours to say.
    """
    from geomatch.features.introspection import DistilledFeatures
    from geomatch.training.keypoints.train import Matching, train_keypoints
    from geomatch.training.recipes import DISTILLED_RECIPES

    validate = training.validation()
    recipe, optimisation = training.recipe(DISTILLED_RECIPES)
    with training_bar(training.out, quiet=training.quiet) as show, training.resumable():
        train_keypoints(
            replace(training.run(), data=()),
            recipe,
            optimisation,
            matching=Matching(training.data, partial(_matcher, training.device, matched_by), matched_by),
            feature=DistilledFeatures.name,
            on_progress=show,
            validate=validate,
            validate_every=training.val_every,
        )


def _matcher(device: Device, shipped: str | None, init: Path) -> Pipeline:
    """What matches photographs: a preset, shipped features, or a file of weights."""
    from geomatch.features.weights import features_of, read_weights_file
    from geomatch.pipeline import Pipeline

    if shipped is None:
        return Pipeline(features=features_of(read_weights_file(init)), weights=init, device=device)
    if shipped in list(Preset):
        return Pipeline(preset=shipped, device=device)
    return Pipeline(features=shipped, zoom="on", device=device)


@app.command()
@training_options(SCNET)
def scnet(training: TrainingOptions, images: Photographs = None) -> None:
    """SCNet: embeddings of regions that learn from corresponding keypoints, by the score that matches them.

    --set variant=a, ag or ag+ says which: SCNet-AG and SCNet-AG+ go on from the weights of SCNet-A. What the embeddings
    read is not tuned, unless trunk_learning_rate is above 0. Pairs are those of `geomatch train keypoints`. Match by
    --features scnet --weights OUT --matcher scnet-a.
    """
    from geomatch.training.recipes import SCNET_RECIPES
    from geomatch.training.scnet.train import train_scnet

    validate = training.validation()
    recipe, optimisation = training.recipe(SCNET_RECIPES)
    with training_bar(training.out, quiet=training.quiet) as show, training.resumable():
        train_scnet(
            training.run(),
            recipe,
            optimisation,
            images=images,
            on_progress=lambda progress: show("training", progress),
            validate=validate,
            validate_every=training.val_every,
        )


@app.command()
def foreground(
    data: Annotated[
        list[Path],
        typer.Option(metavar="PATH", help="Folder of photographs, folder of .tar shards, or one shard; repeatable."),
    ],
    init: Annotated[Path, typer.Option(metavar="FILE", help="Weights of distilled features, which are read.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Weights file to write (safetensors).")],
    per_label: Annotated[int, typer.Option(min=1, help="Photographs of each label, the first ones.")] = 150,
    max_unreadable: Annotated[
        float, typer.Option(min=0, max=1, help="Share of photographs that may be damaged.")
    ] = 0.01,
    device: DeviceChoice = Device.auto,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """What tells objects from their surroundings, from image labels alone: where --zoom on looks closer.

    The boxes of `geomatch crops` are found in memory, and a linear classifier of descriptors learns what lies in them.
    """
    from geomatch.datasets.image_folder import ImageReader, find_images
    from geomatch.features.introspection import DistilledFeatures
    from geomatch.features.load import load_features
    from geomatch.features.zoom import OVERVIEW_SIZE
    from geomatch.io.atomic import check_new_file
    from geomatch.runtime.device import find_device
    from geomatch.training.objects.crops import extract_descriptors, find_crops
    from geomatch.training.objects.foreground import first_of_each_label, fit_foreground, save_foreground

    check_new_file(out, overwrite=overwrite, suffixes=(".safetensors",))
    images = first_of_each_label(find_images(data), per_label)
    extractor = load_features(
        DistilledFeatures.name,
        working_size=OVERVIEW_SIZE,
        device=find_device(device),
        weights=init,
        precision=Precision.auto,
    )
    reader = ImageReader(len(images), max_unreadable)
    with counting_bar("extracting", len(images), quiet=quiet) as advance:
        cells = extract_descriptors(images, extractor, reader, advance)
        advance(0, doing="learning")
        save_foreground(out, fit_foreground(cells, find_crops(cells), str(extractor.weights_sha256)))
    if reader.unreadable:
        notify(f"{len(reader.unreadable)} photographs cannot be read: {', '.join(reader.unreadable)}")


def convert(
    weights: Annotated[Path, typer.Argument(metavar="FILE", help="Weights (.pth, .pt, safetensors).")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="File of safetensors to write.")],
    overwrite: Overwrite = False,
) -> None:
    """Write the tensors of a PyTorch file as safetensors, which cannot hold code.

    No code in the file is run: it may hold tensors and plain containers alone. A state dictionary within a checkpoint
    is found. Prints the new file's SHA-256 and its name, as sha256sum does.
    """
    from geomatch.features.weights import encode_safetensors, sha256_of
    from geomatch.io.atomic import check_new_file, write_atomically

    check_new_file(output, overwrite=overwrite, suffixes=(".safetensors",))
    write_atomically(output, encode_safetensors(weights))
    typer.echo(f"{sha256_of(output)}  {output}")


def _draw(logs: list[Path], output: Path | None, *, overwrite: bool) -> None:
    from geomatch.io.atomic import STDOUT, check_output, write_atomically
    from geomatch.io.inputs import called, stem_of
    from geomatch.io.names import has_no_name
    from geomatch.training.monitoring.log import read_log
    from geomatch.training.monitoring.plot import training_page

    if output is None:
        output = Path(f"{stem_of(logs[0])}.html") if has_no_name(logs[0]) else logs[0].with_suffix(".html")
    check_output(output, overwrite=overwrite, suffixes=(".html", ".htm"))
    page = training_page({called(log).removesuffix(".log.jsonl"): read_log(log) for log in logs})
    write_atomically(output, page.encode(errors="replace"))  # file names need not be text
    if output != STDOUT:
        typer.echo(output)
