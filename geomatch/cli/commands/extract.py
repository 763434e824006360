"""`geomatch extract`: images to files of their features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from geomatch.cli.inputs import expand_names
from geomatch.cli.options import (
    DEFAULTS,
    THIS_PROCESS,
    EngineOptions,
    NullNames,
    Overwrite,
    PipelineOptions,
    Quiet,
    engine_options,
    pipeline_options,
)
from geomatch.cli.report import ItemReport, report_items
from geomatch.errors import InputError
from geomatch.options import FeatureFormat, Refine


@pipeline_options("features", "preset", "weights", "device", "precision", "batch", "cache")
@engine_options
def extract(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...", help="Images, folders of them, or - to read names from stdin.", show_default=False
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write into.")] = Path(
        "features"
    ),
    format: Annotated[FeatureFormat, typer.Option("--format", help="File format.")] = FeatureFormat.npz,
    half: Annotated[bool, typer.Option("--half", help="Write float16 instead of float32.")] = False,
    null: NullNames = False,
    pipeline: PipelineOptions = DEFAULTS,
    engine: EngineOptions = THIS_PROCESS,
    resume: Annotated[
        bool, typer.Option("--resume", help="Skip images whose file is there, whole, and of the same settings.")
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write each image's features into a file, DIR/NAME.npz, for programs of your own.

    It holds descriptors (C, h, w) of unit length; inverse_confidence (h, w), if the features have it, small where they
    are reliable; image_size, height and width; origin and pitch, x and y: the centre of the cell in row i and column j
    is the pixel origin + pitch * (j, i). Images of the same name in different folders get a number.

    Prints one line of JSON per image, also for those that fail; the exit status is 1 if any failed.
    """
    from geomatch.batch.extract_images import ExtractionJob
    from geomatch.io.atomic import check_new_folder
    from geomatch.io.inputs import stem_of
    from geomatch.io.names import unique_names
    from geomatch.io.remote.objects import disk_folder, names_below, shown, url_of
    from geomatch.runtime.shard import Shard

    paths = expand_names(images, null=null)
    names = unique_names(stem_of(path) for path in paths)
    files = [output / f"{name}.{format.value}" for name in names]
    check_new_folder(output, overwrite=True)
    if resume and overwrite:
        raise InputError("--resume keeps what is valid and --overwrite does all again: give one of them")
    below = names_below(output) if url_of(output) else ()
    there = [file for file in files if file.name in below or file.exists()]
    if there and not (overwrite or resume):
        raise InputError(
            f"{shown(there[0])}: exists already; go on there with --resume, do all again with --overwrite, "
            "or give another folder with -o"
        )
    settings = replace(pipeline, refine=Refine.off)
    worker = engine.open(pipeline.device)
    job = ExtractionJob(settings.builder(worker), format, "float16" if half else "float32", disk_folder(output), resume)
    report = ItemReport("extracting", "image", lambda record: record["image"], lambda record: record["output"])
    report_items(worker.run(job, list(zip(paths, files, strict=True))), report, len(paths), Shard(), quiet=quiet)
