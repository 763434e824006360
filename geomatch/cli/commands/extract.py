"""`geomatch extract`: images to files of their features."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geomatch.cli.inputs import expand_names
from geomatch.cli.options import DEFAULTS, NullNames, Overwrite, PipelineOptions, Quiet, pipeline_options
from geomatch.cli.report import ItemReport, report_items
from geomatch.errors import GeomatchError, InputError
from geomatch.options import FeatureFormat, Refine

if TYPE_CHECKING:
    from geomatch.batch.match_record import Record
    from geomatch.pipeline import Pipeline


@pipeline_options("features", "preset", "weights", "device", "precision", "cache")
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
    from geomatch.io.atomic import check_new_folder
    from geomatch.io.names import unique_names
    from geomatch.runtime.parallel_map import Finished
    from geomatch.runtime.shard import Shard

    paths = expand_names(images, null=null)
    names = unique_names(path.stem for path in paths)
    files = [output / f"{name}.{format.value}" for name in names]
    check_new_folder(output, overwrite=True)
    if resume and overwrite:
        raise InputError("--resume keeps what is valid and --overwrite does all again: give one of them")
    there = [file for file in files if file.exists()]
    if there and not (overwrite or resume):
        raise InputError(
            f"{there[0]}: exists already; go on there with --resume, do all again with --overwrite, "
            "or give another folder with -o"
        )
    loaded = replace(pipeline, refine=Refine.off).build()
    precision = "float16" if half else "float32"

    def extract_one(path: Path, file: Path) -> Finished:
        record: Record = {"image": str(path)}
        try:
            about, reused = _extract(path, file, format, loaded, precision=precision, resume=resume)
            return Finished(record | about, reused=reused)
        except GeomatchError as error:
            return Finished(record | {"error": str(error)}, error=error)

    report = ItemReport("extracting", "image", lambda record: record["image"], lambda record: record["output"])
    report_items(map(extract_one, paths, files), report, len(paths), Shard(), quiet=quiet)


def _extract(
    path: Path, file: Path, format: FeatureFormat, pipeline: Pipeline, *, precision: str, resume: bool
) -> tuple[Record, bool]:
    """The record of an image, and whether its file was there already."""
    from geomatch import __version__
    from geomatch.io.atomic import write_atomically
    from geomatch.io.features import FEATURE_ENCODERS, read_about
    from geomatch.io.images import read_image

    image = read_image(path)
    about: Record = {
        "sha256": image.sha256,
        "features": pipeline.extractor.name,
        "weights_sha256": pipeline.extractor.weights_sha256,
        "working_size": pipeline.extractor.working_size,
        "arithmetic": pipeline.extractor.arithmetic,
        "version": __version__,
    }
    if resume:
        with suppress(OSError, ValueError):
            there = read_about(file.read_bytes(), format)
            shape = there.pop("shape")
            if there == about | {"precision": precision}:
                return about | {"shape": shape, "output": str(file)}, True
    features = pipeline.extract(image.pixels)
    write_atomically(file, FEATURE_ENCODERS[format](features, about, precision=precision))
    return about | {"shape": list(features.descriptors.shape), "output": str(file)}, False
