"""`geomatch suggest`: which images to annotate next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geomatch.cli.console import counting_bar, print_error
from geomatch.cli.inputs import expand_names
from geomatch.cli.options import DEFAULTS, NullNames, Overwrite, PipelineOptions, Quiet, pipeline_options
from geomatch.cli.output import print_json, print_table
from geomatch.errors import GeomatchError, InputError, printable
from geomatch.options import AnnotationKind, Refine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
        typer.Option(
            metavar="FILE", help="Keypoints of the images that are annotated already, as transfer reads them."
        ),
    ] = None,
    places: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            metavar="PATH",
            help="Folder of the images that FILE annotates, or one of them; repeatable.",
            show_default="beside FILE",
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of images to list.")] = 10,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.png", help="Contact sheet to write.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON per image, not a table.")] = False,
    null: NullNames = False,
    pipeline: PipelineOptions = DEFAULTS,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """List the images to annotate next, those that stand for the most others first.

    Each image is chosen that brings the images nearest to an annotated one, as features compare them. With --keypoints
    images count the more, the less sure what transfer finds on them is. Images that cannot be read are left out; the
    exit status is then 1.
    """
    from geomatch.io.atomic import check_new_file
    from geomatch.io.images import load_image
    from geomatch.transfer.references.reference_set import ReferenceSet, leave_out_references
    from geomatch.transfer.references.transfer import default_features
    from geomatch.transfer.suggest import Candidates

    if places and not keypoints:
        raise InputError("--from says where the images of --keypoints are: give --keypoints FILE, too")
    if output:
        check_new_file(output, overwrite=overwrite, suffixes=(".png",))
    paths, marked = expand_names(images, null=null), None
    if keypoints:
        marked = ReferenceSet.read(keypoints, AnnotationKind.keypoints, places or ())
        paths = leave_out_references(paths, marked)
        if not (pipeline.features or pipeline.weights):
            pipeline = replace(pipeline, features=default_features(marked))
    candidates = Candidates(replace(pipeline, refine=Refine.off).build(), marked)
    readable: list[Path] = []
    with counting_bar("extracting", len(paths), quiet=quiet) as advance:
        for path in paths:
            try:
                candidates.add(load_image(path))
                readable.append(path)
            except InputError as error:
                print_error(str(error))
            advance()
    if not readable:
        raise InputError("none of the images can be used")
    names = [*map(str, readable), *(image.name for image in (marked.images if marked else ()))]
    found = [
        _record(rank, each, names, candidates.confidence) for rank, each in enumerate(candidates.suggest(count), 1)
    ]
    if output:
        _draw(output, found)
    _print(found, json=json)
    if failed := len(paths) - len(readable):
        raise GeomatchError(f"{failed} of {len(paths)} images cannot be used and are left out")


def _record(rank: int, suggestion: Suggestion, names: Sequence[str], confidence: Sequence[float]) -> dict[str, Any]:
    """A suggestion, ready for JSON. names: of the images, then of those annotated. confidence: of each, if known."""
    nearest = None if suggestion.nearest is None else names[suggestion.nearest]
    record = {
        "rank": rank,
        "image": names[suggestion.place],
        "stands_for": suggestion.stands_for,
        "nearest": nearest,
        "similarity": None if nearest is None else round(suggestion.similarity, 4),
        "gain": round(suggestion.gain, 4),
    }
    if confidence:
        record["confidence"] = round(confidence[suggestion.place], 4)
    return record | {"reason": _reason(record)}


def _reason(record: Mapping[str, Any]) -> str:
    if record["nearest"] is None:
        return "the most typical of all"
    others = record["stands_for"] - 1
    alike = f"nearest to {others} other{'s' if others != 1 else ''}" if others else "like none before"
    return alike + (f", {record['confidence']:.0%} sure" if "confidence" in record else "")


def _print(found: Sequence[Mapping[str, Any]], *, json: bool) -> None:
    if json:
        for record in found:
            print_json(record)
        return
    rows = [(str(record["rank"]), printable(record["image"]), record["reason"]) for record in found]
    print_table("Annotate next", ["", "image", "why"], rows, text=["image", "why"])


def _draw(output: Path, found: Sequence[Mapping[str, Any]]) -> None:
    from geomatch.io.atomic import write_atomically
    from geomatch.io.images import load_image, png_bytes
    from geomatch.visualize.contact_sheet import draw_contact_sheet, thumbnail

    pictures = [thumbnail(load_image(Path(record["image"]))) for record in found]
    names = [f"{record['rank']}  {Path(record['image']).name}" for record in found]
    sheet = draw_contact_sheet(pictures, names, [record["reason"] for record in found])
    write_atomically(output, png_bytes(sheet))
