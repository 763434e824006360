"""`geomatch transfer`: annotations of one image transferred to many."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from geomatch.cli.inputs import expand_names
from geomatch.cli.options import DEFAULTS, NullNames, Overwrite, PipelineOptions, Quiet, pipeline_options
from geomatch.cli.report import ItemReport, report_items
from geomatch.errors import InputError
from geomatch.options import FOLDER_FORMATS, AnnotationFormat, AnnotationKind, Existing


@pipeline_options(
    *["features", "matcher", "parameters", "preset", "weights"],
    *["refine", "device", "precision", "max_memory", "cache", "mirror"],
)
def transfer(
    reference: Annotated[Path, typer.Argument(metavar="REF", help="The annotated image.", show_default=False)],
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES...",
            help="Images to transfer it to, or folders of them; - reads names from stdin.",
            show_default=False,
        ),
    ],
    keypoints: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Keypoints of REF: COCO, labelme, CSV, or an export of CVAT, Label Studio or VIA."
        ),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Masks of REF: as keypoints, not CSV, or a label image (PNG).")
    ] = None,
    boxes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Boxes on REF: as keypoints, or PASCAL VOC's XML.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="PATH", help="File to write, .json (COCO) or .csv, or a folder (labelme, PNG)."
        ),
    ] = None,
    format: Annotated[
        AnnotationFormat | None, typer.Option(help="Format to write.", show_default="that of PATH, else of FILE")
    ] = None,
    review: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for a page to correct the result on, and pictures.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse FILE if an item in it cannot be used, instead of leaving it out.")
    ] = False,
    ignore_label: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="VALUE",
            help="Of a label image, the value that marks nothing; 0 for none.",
            show_default="255 beside labels below 128",
        ),
    ] = None,
    mask_threshold: Annotated[
        int | None,
        typer.Option(min=0, metavar="VALUE", help="The label image is one mask, of the pixels above VALUE."),
    ] = None,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, metavar="P", help="Leave out points, masks and boxes of less confidence.")
    ] = 0.0,
    null: NullNames = False,
    pipeline: PipelineOptions = DEFAULTS,
    resume: Annotated[
        bool, typer.Option("--resume", help="Skip images whose file is there; of formats with a file an image.")
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Transfer the keypoints, masks or boxes annotated on REF to other IMAGES, each with its confidence.

    Prints one line of JSON per image: what was found, or why nothing was. -o writes files in the format that was read.
    An image that cannot be used does not stop the others; the exit status is then 1. Under torchrun each process takes
    its part of the images.
    """
    kind, file = _annotation_file(keypoints, mask, boxes)
    existing = _existing(output, format, resume=resume, overwrite=overwrite)

    from geomatch.batch.match_record import settings_record
    from geomatch.io.annotations.files import open_output, output_format
    from geomatch.io.annotations.label_image import LabelRules
    from geomatch.runtime.device import assign_gpu
    from geomatch.runtime.shard import Shard
    from geomatch.transfer.manifest import Manifest
    from geomatch.transfer.outputs import TransferOutputs
    from geomatch.transfer.reference import Reference
    from geomatch.transfer.review import open_review
    from geomatch.transfer.transfer import InstanceTransfer
    from geomatch.transfer.transfer_many import name_targets, transfer_many

    share = Shard.from_environment()
    labels = LabelRules(ignore_label, mask_threshold)
    marked = Reference.read(reference, file, kind, strict=strict, labels=labels)
    written = output_format(output, format, marked.annotations.format) if output else marked.annotations.format
    targets = share.part(name_targets(expand_names(images, null=null)))
    files = None
    if output:
        annotations = marked.annotations
        files = open_output(output, written, kind, annotations, targets, existing=existing, processes=share.count)
    labelme = output if written is AnnotationFormat.labelme else None
    pictures = open_review(review, marked, share, existing, labelme) if review else None

    assign_gpu()
    loaded = pipeline.build()
    origin = {**marked.record(), "least_confidence": min_confidence, **settings_record(loaded)}
    manifest = Manifest(origin, existing) if written in FOLDER_FORMATS else None
    if manifest and output:
        manifest.clear_unfinished(output)
    features_of_reference = loaded.extract(marked.image.pixels)
    transfer = InstanceTransfer(loaded, features_of_reference, marked.annotations.instances, kind, min_confidence)
    finished = transfer_many(targets, transfer, TransferOutputs(files, manifest, pictures), resume=resume)
    report = ItemReport("transferring", "image", lambda record: str(record["image"]), _outcome)
    report_items(finished, report, len(targets), share, quiet=quiet)


def _existing(output: Path | None, format: AnnotationFormat | None, *, resume: bool, overwrite: bool) -> Existing:
    """What to do about files that exist. Raises InputError for options that do not go together."""
    if format and not output:
        raise InputError("--format says what -o writes: give -o, too")
    if resume and overwrite:
        raise InputError("--resume keeps what is there and --overwrite does all again: give one of them")
    if resume and not output:
        raise InputError("--resume skips images whose file is there: give -o DIR, and --format labelme or png")
    return Existing.kept if resume else Existing.replaced if overwrite else Existing.refused


def _annotation_file(keypoints: Path | None, mask: Path | None, boxes: Path | None) -> tuple[AnnotationKind, Path]:
    kinds = {AnnotationKind.keypoints: keypoints, AnnotationKind.masks: mask, AnnotationKind.boxes: boxes}
    given = [(kind, file) for kind, file in kinds.items() if file]
    if len(given) != 1:
        raise InputError("give one of --keypoints FILE, --mask FILE and --boxes FILE")
    return given[0]


def _outcome(record: dict[str, Any]) -> str:
    items = record["items"]
    found = f"{len(items)} found" if items else "nothing found"
    return f"{record['image']}: {found}, confidence {record['confidence']:.2f}"
