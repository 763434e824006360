"""`geomatch transfer`: what is marked on one image, found again on many."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from geomatch.cli.console import counting_bar
from geomatch.cli.options import (
    DeviceChoice,
    Features,
    MatcherName,
    MaxMemory,
    Parameters,
    PresetChoice,
    Quiet,
    WeightsFile,
    parse_parameters,
    parse_size,
)
from geomatch.errors import GeomatchError, InputError
from geomatch.settings import AnnotationFormat, AnnotationKind, Device, Preset


def transfer(
    reference: Annotated[Path, typer.Argument(metavar="REF", help="The annotated image.", show_default=False)],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES...", help="Images to carry it to; - reads names from stdin.", show_default=False
        ),
    ],
    keypoints: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keypoints of REF: COCO, labelme or CSV.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Masks of REF: COCO, labelme or a label image (PNG).")
    ] = None,
    boxes: Annotated[Path | None, typer.Option(metavar="FILE", help="Boxes on REF: COCO, labelme or CSV.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PATH", help="File (COCO, CSV) or folder (labelme, PNG) to write."),
    ] = None,
    format: Annotated[
        AnnotationFormat | None, typer.Option(help="Format to write.", show_default="that of FILE")
    ] = None,
    review: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for pictures to check, least sure first.")
    ] = None,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, metavar="P", help="Leave out points, masks and boxes less sure than this.")
    ] = 0.0,
    null: Annotated[bool, typer.Option("--null", "-0", help="Names on stdin end in NUL, as find -print0's.")] = False,
    features: Features = None,
    matcher: MatcherName = None,
    parameters: Parameters = None,
    preset: PresetChoice = Preset.default,
    weights: WeightsFile = None,
    device: DeviceChoice = Device.auto,
    max_memory: MaxMemory = "2GiB",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over what exists.")] = False,
    quiet: Quiet = False,
) -> None:
    """Carry the keypoints, masks or boxes marked on REF to other IMAGES, each with its confidence.

    Prints for each image one line of JSON with all that was found, or why there is nothing; -o writes files in the
    format that was read. An image that cannot be used does not stop the others; the exit status is then 1.
    """
    from geomatch.annotations import AnnotatedImage
    from geomatch.io.annotation_lines import annotation_record
    from geomatch.io.annotations import open_output, read_annotations
    from geomatch.io.images import load_image
    from geomatch.io.untrusted import json_text
    from geomatch.pipeline import Pipeline
    from geomatch.review import Album
    from geomatch.transfer import Carrier

    kind, file = _marked(keypoints, mask, boxes)
    if format and not output:
        raise InputError("--format says what -o writes: give -o, too")
    pixels = load_image(reference)
    size = (pixels.shape[1], pixels.shape[2])
    annotations = read_annotations(file, kind, reference, size)
    marked = AnnotatedImage(str(reference), size, annotations.things)
    paths = image_names(images, null=null)
    writer = (
        open_output(output, format or annotations.format, kind, annotations, overwrite=overwrite) if output else None
    )
    album = Album.new(review, (pixels, marked), annotations.categories, overwrite=overwrite) if review else None
    pipeline = Pipeline.build(
        features=features,
        matcher=matcher,
        parameters=parse_parameters(parameters or []),
        preset=preset,
        weights=weights,
        device=device,
        max_memory=parse_size(max_memory),
    )
    carrier = Carrier(pipeline, pipeline.describe(pixels), annotations.things, kind, min_confidence)

    failed = 0
    with counting_bar("carrying", len(paths), quiet=quiet) as advance:
        for path in paths:
            try:
                picture = load_image(path)
                carried = AnnotatedImage(str(path), (picture.shape[1], picture.shape[2]), carrier(picture))
                record = annotation_record(carried)
                if writer:
                    record["output"] = str(writer.add(carried))
                if album:
                    record["review"] = str(album.add(picture, carried))
            except GeomatchError as error:
                record = {"image": str(path), "error": str(error)}
                failed += 1
            advance()
            if not quiet:
                typer.echo(_summary(record) if sys.stdout.isatty() else json_text(record))
    if writer and failed < len(paths):
        writer.close()
    if album:
        album.close()
    if failed:
        raise GeomatchError(f'{failed} of {len(paths)} images could not be used; the lines with "error" say why')


def image_names(arguments: Sequence[str], *, null: bool) -> list[Path]:
    """The images that were named, with the names that stdin holds in the place of a ``-``. Raises InputError."""
    paths: list[Path] = []
    for argument in arguments:
        if argument != "-":
            paths.append(Path(argument))
            continue
        ends = b"\0" if null else b"\n"
        names = [name.removesuffix(b"\r") for name in sys.stdin.buffer.read().split(ends)]
        paths += [Path(os.fsdecode(name)) for name in names if name]
    if not paths:
        raise InputError("stdin names no images; write one a line")
    return paths


def _marked(keypoints: Path | None, mask: Path | None, boxes: Path | None) -> tuple[AnnotationKind, Path]:
    kinds = {AnnotationKind.keypoints: keypoints, AnnotationKind.masks: mask, AnnotationKind.boxes: boxes}
    given = [(kind, file) for kind, file in kinds.items() if file]
    if len(given) != 1:
        raise InputError("give one of --keypoints FILE, --mask FILE and --boxes FILE")
    return given[0]


def _summary(record: dict[str, Any]) -> str:
    if "error" in record:
        return f"{record['image']}: {record['error']}"
    items = record["items"]
    said = f"{len(items)} found" if items else "nothing found"
    return f"{record['image']}: {said}, confidence {record['confidence']:.2f}"
