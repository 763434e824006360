"""`geomatch average`: a joint picture of images of one kind of object."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geomatch.cli.console import counting_bar
from geomatch.cli.inputs import expand_names
from geomatch.cli.options import DEFAULTS, OUTPUT, NullNames, Overwrite, PipelineOptions, Quiet, pipeline_options
from geomatch.cli.output import print_record
from geomatch.errors import InputError


@pipeline_options(
    *["features", "matcher", "parameters", "preset", "weights", "device", "precision"],
    *["max_memory", "refine", "zoom", "cache", "mirror"],
)
def average(
    images: Annotated[
        list[Path],
        typer.Argument(help="Images, or folders of them; - reads names from stdin.", show_default=False),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE", help="PNG to write; - sends it to stdout.", rich_help_panel=OUTPUT
        ),
    ],
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="IMAGE", help="The image in whose frame the picture is.", show_default="the first of IMAGES"
        ),
    ] = None,
    null: NullNames = False,
    pipeline: PipelineOptions = DEFAULTS,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Average IMAGES of one kind of object: each is warped onto one of them, and the surest count most.

    The picture is transparent where few images reach. --mirror auto flips those that face the other way.
    """
    from geomatch.io.atomic import STDOUT, check_output, write_atomically

    check_output(output, overwrite=overwrite, suffixes=(".png",))
    pipeline.check()
    names = expand_names(images, null=null)
    if len(names) + (reference is not None) < 2:
        raise InputError("give two images or more, or folders of them")

    from geomatch.batch.average import average_images
    from geomatch.io.formats.png import encode_png

    frame, others = (reference, names) if reference else (names[0], names[1:])
    with counting_bar("averaging", len(others), quiet=quiet) as advance:
        found = average_images(frame, others, pipeline.build(), advance)
    write_atomically(output, encode_png(found.picture))
    if output == STDOUT:
        return
    height, width = found.picture.shape[:2]
    used = [
        {"image": str(each.path), "confidence": round(each.confidence, 4), "reached": round(each.reached, 4)}
        for each in found.images
    ]
    record = {"output": str(output), "reference": str(frame), "width": width, "height": height, "images": used}
    print_record(record, f"{output}: {len(used) + 1} images, {width}x{height} pixels")
