"""`geomatch suggest`: which images to annotate next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geomatch.cli.console import counting_bar, print_error
from geomatch.cli.inputs import expand_names, folders_of
from geomatch.cli.options import DEFAULTS, NullNames, Overwrite, PipelineOptions, Quiet, pipeline_options
from geomatch.cli.output import print_json, print_table
from geomatch.errors import GeomatchError, InputError, printable
from geomatch.options import AnnotationKind, Mirror, Refine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from geomatch.pipeline import Pipeline
    from geomatch.transfer.suggest import Suggestion


@pipeline_options("features", "preset", "weights", "device", "precision", "cache")
def suggest(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...", help="Images, folders of them, or - to read names from stdin.", show_default=False
        ),
    ],
    keypoints: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What is annotated already, as transfer reads it."),
    ] = None,
    places: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            metavar="PATH",
            help="Folder of the images that FILE annotates, or one of them; repeatable.",
            show_default="beside FILE or IMAGES",
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of images to list.")] = 10,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.png", help="Contact sheet to write; - for stdout.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON per image, not a table.")] = False,
    null: NullNames = False,
    pipeline: PipelineOptions = DEFAULTS,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """List the images to annotate next, those that stand for the most others first.

    Each time that image is chosen that brings all images nearest to an annotated one, as features compare them. The
    images that --keypoints annotates count, and are not listed. Images that cannot be read are left out; the exit
    status is then 1.
    """
    import torch

    from geomatch.io.atomic import STDOUT, check_output
    from geomatch.transfer.references.reference_set import ReferenceSet, leave_out_references
    from geomatch.transfer.suggest import suggest as choose

    if places and not keypoints:
        raise InputError("--from says where the images of --keypoints are: give --keypoints FILE, too")
    if output:
        check_output(output, overwrite=overwrite, suffixes=(".png",))
    paths, marked = expand_names(images, null=null), []
    if keypoints:
        references = ReferenceSet.read(keypoints, AnnotationKind.keypoints, places or (), folders_of(images))
        paths = leave_out_references(paths, references)
        marked = [Path(image.name) for image in references.images]
    read_once: dict[str, Tensor] = {}
    loaded = replace(pipeline, refine=Refine.off).build()
    with counting_bar("extracting", len(paths) + len(marked), quiet=quiet) as advance:
        read = _describe(loaded, paths, advance, read_once)
        annotated = _describe(loaded, marked, advance, {})
    if not read:
        raise InputError("none of the images can be used")
    descriptors, known = (torch.stack([each for _, each in part]) if part else None for part in (read, annotated))
    assert descriptors is not None, "some were read"
    chosen = choose(descriptors, count, known)
    names = [str(path) for path, _ in [*read, *annotated]]
    found = [_record(rank, each, names) for rank, each in enumerate(chosen, 1)]
    if output:
        _draw(output, found, read_once)
    if output != STDOUT:
        _print(found, json=json)
    if failed := len(paths) - len(read):
        raise GeomatchError(f"{failed} of {len(paths)} images cannot be used and are left out")


def _describe(
    pipeline: Pipeline, paths: Sequence[Path], advance: Callable[[], None], read_once: dict[str, Tensor]
) -> list[tuple[Path, Tensor]]:
    """What the images that can be read are compared by; of the others the error is printed.

    read_once: takes the pixels of pipes, which cannot be read again.
    """
    from geomatch.io.images import read_image
    from geomatch.transfer.references.evidence import image_descriptor

    found = []
    for path in paths:
        try:
            image = read_image(path)
            found.append((path, image_descriptor(pipeline.extract(image.pixels, Mirror.off)).cpu()))
            if not image.repeatable:
                read_once[str(path)] = image.pixels
        except InputError as error:
            print_error(str(error))
        advance()
    return found


def _record(rank: int, suggestion: Suggestion, names: Sequence[str]) -> dict[str, Any]:
    """A suggestion, ready for JSON. names: of the images, then of those annotated."""
    nearest = None if suggestion.nearest is None else names[suggestion.nearest]
    others = suggestion.stands_for - 1
    reason = f"nearest to {others} other{'s' if others != 1 else ''}" if others else "like none before"
    return {
        "rank": rank,
        "image": names[suggestion.place],
        "stands_for": suggestion.stands_for,
        "nearest": nearest,
        "similarity": None if nearest is None else round(suggestion.similarity, 4),
        "gain": round(suggestion.gain, 4),
        "reason": reason if nearest is not None else "the most typical of all",
    }


def _print(found: Sequence[Mapping[str, Any]], *, json: bool) -> None:
    if json:
        for record in found:
            print_json(record)
        return
    rows = [(str(record["rank"]), printable(record["image"]), record["reason"]) for record in found]
    print_table("Annotate next", ["", "image", "why"], rows, text=["image", "why"])


def _draw(output: Path, found: Sequence[Mapping[str, Any]], read_once: Mapping[str, Tensor]) -> None:
    from geomatch.io.atomic import write_atomically
    from geomatch.io.images import load_image, png_bytes
    from geomatch.visualize.contact_sheet import draw_contact_sheet, thumbnail

    images = (read_once[name] if (name := record["image"]) in read_once else load_image(Path(name)) for record in found)
    pictures = [thumbnail(image) for image in images]
    names = [f"{record['rank']}  {Path(record['image']).name}" for record in found]
    sheet = draw_contact_sheet(pictures, names, [record["reason"] for record in found])
    write_atomically(output, png_bytes(sheet))
