"""`geomatch transfer`: what is marked on one image, found again on many."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geomatch.cli.batch import Told, check_stdin, listed, tell_all
from geomatch.cli.options import DEFAULTS, PipelineOptions, Quiet, pipeline_options
from geomatch.errors import InputError
from geomatch.options import FOLDERS, AnnotationFormat, AnnotationKind, Existing

if TYPE_CHECKING:
    from geomatch.runtime.shard import Shard


@pipeline_options(*["features", "matcher", "parameters", "preset", "weights", "device", "max_memory", "cache"])
def transfer(
    reference: Annotated[Path, typer.Argument(metavar="REF", help="The annotated image.", show_default=False)],
    images: Annotated[
        list[Path],
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
    pipeline: PipelineOptions = DEFAULTS,
    resume: Annotated[
        bool, typer.Option("--resume", help="Skip images whose file is there; of formats with a file an image.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over what exists.")] = False,
    quiet: Quiet = False,
) -> None:
    """Carry the keypoints, masks or boxes marked on REF to other IMAGES, each with its confidence.

    Prints for each image one line of JSON with all that was found, or why there is nothing; -o writes files in the
    format that was read. An image that cannot be used does not stop the others; the exit status is then 1. Under
    torchrun each process takes its part of the images.
    """
    kind, file = _marked(keypoints, mask, boxes)
    _check_choices(images, output, format, resume=resume, overwrite=overwrite)

    from geomatch.annotations import AnnotatedImage
    from geomatch.batch.match_record import settings_record
    from geomatch.features.weights import sha256_of
    from geomatch.io.annotations.files import open_output, read_annotations
    from geomatch.io.images import read_image
    from geomatch.runtime.device import take_own_gpu
    from geomatch.runtime.shard import Shard
    from geomatch.transfer.manifest import Manifest
    from geomatch.transfer.review import Review
    from geomatch.transfer.transfer import Carrier
    from geomatch.transfer.transfer_many import Destination, carry_to_all, lay_out

    share = Shard.of_torchrun()
    image = read_image(reference)
    size = (image.pixels.shape[1], image.pixels.shape[2])
    annotations = read_annotations(file, kind, reference, size)
    marked = AnnotatedImage(str(reference), size, annotations.things)
    wanted = format or annotations.format
    targets = share.part(lay_out(listed(images, null=null)))
    existing = Existing.kept if resume else Existing.replaced if overwrite else Existing.refused
    writer = album = None
    if output:
        _check_shareable(output, wanted, share)
        writer = open_output(output, wanted, kind, annotations, targets, existing=existing)
    if review:
        page = "index.html" if share.count == 1 else f"index-{share.number + 1}-of-{share.count}.html"
        album = Review(review, (image.pixels, marked), annotations.categories, page)
        album.prepare(targets, shared=resume or overwrite or share.count > 1)

    take_own_gpu()
    loaded = pipeline.build()
    origin = {
        "reference_sha256": image.sha256,
        "marks_sha256": sha256_of(file),
        "marks": kind.value,
        "least_confidence": min_confidence,
        **settings_record(loaded),
    }
    ledger = Manifest(origin, existing) if wanted in FOLDERS else None
    carrier = Carrier(loaded, loaded.extract(image.pixels), annotations.things, kind, min_confidence)
    finished = carry_to_all(targets, carrier, Destination(writer, ledger, album), resume=resume)
    told = Told("carrying", "image", lambda record: str(record["image"]), _outcome)
    tell_all(finished, told, len(targets), share, quiet=quiet)


def _check_choices(
    images: list[Path], output: Path | None, format: AnnotationFormat | None, *, resume: bool, overwrite: bool
) -> None:
    check_stdin(images, "name the images")
    if format and not output:
        raise InputError("--format says what -o writes: give -o, too")
    if resume and overwrite:
        raise InputError("--resume keeps what is there and --overwrite does all anew: give one of them")
    if resume and not output:
        raise InputError("--resume skips images whose file is there: give -o DIR, and --format labelme or png")


def _check_shareable(output: Path, format: AnnotationFormat, share: Shard) -> None:
    if share.count > 1 and format not in FOLDERS:
        raise InputError(
            f"-o {output}: {share.count} processes cannot write one file; "
            "give a folder with --format labelme or png, or leave out -o and take the lines"
        )


def _marked(keypoints: Path | None, mask: Path | None, boxes: Path | None) -> tuple[AnnotationKind, Path]:
    kinds = {AnnotationKind.keypoints: keypoints, AnnotationKind.masks: mask, AnnotationKind.boxes: boxes}
    given = [(kind, file) for kind, file in kinds.items() if file]
    if len(given) != 1:
        raise InputError("give one of --keypoints FILE, --mask FILE and --boxes FILE")
    return given[0]


def _outcome(record: dict[str, Any]) -> str:
    items = record["items"]
    said = f"{len(items)} found" if items else "nothing found"
    return f"{record['image']}: {said}, confidence {record['confidence']:.2f}"
