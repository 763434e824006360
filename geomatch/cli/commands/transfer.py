"""`geomatch transfer`: annotations of one image, or of several, transferred to many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geomatch.cli.console import counting_bar, notify
from geomatch.cli.inputs import expand_names, folders_of
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
from geomatch.options import DEFAULT_REFERENCES, FOLDER_FORMATS, AnnotationFormat, AnnotationKind, Existing, Zoom

if TYPE_CHECKING:
    from geomatch.pipeline import Pipeline
    from geomatch.transfer.reference import Reference
    from geomatch.transfer.references.reference_set import ReferenceSet
    from geomatch.transfer.references.transfer import ReferenceChoice, ReferenceTransfer
    from geomatch.transfer.transfer import InstanceTransfer


@pipeline_options(
    *["features", "matcher", "parameters", "preset", "weights"],
    *["refine", "zoom", "device", "precision", "max_memory", "batch", "cache", "mirror"],
)
@engine_options
def transfer(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="[REF] IMAGES...",
            help="The annotated image, unless FILE annotates several; and images to transfer to, folders of them, or "
            "films; - reads names from stdin.",
            show_default=False,
        ),
    ],
    keypoints: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Keypoints of REF: COCO, labelme, CSV, YOLO, or an export of CVAT, Label Studio or VIA; of several "
            "images: COCO, a folder of labelme's or YOLO's files, or CSV.",
        ),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Masks of REF: as keypoints, not CSV, or a label image (PNG).")
    ] = None,
    boxes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Boxes on REF: as keypoints, or PASCAL VOC's XML.")
    ] = None,
    references: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="K",
            help="Transfer from the K most similar of all images that FILE annotates; no REF is named then.",
            show_default="{} for keypoints, {} for masks and boxes".format(*DEFAULT_REFERENCES.values()),
        ),
    ] = None,
    places: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            metavar="PATH",
            help="Folder of the images that FILE annotates, or one of them; repeatable; no REF is named then.",
            show_default="beside FILE or IMAGES",
        ),
    ] = None,
    across_categories: Annotated[
        bool, typer.Option("--across-categories", help="Keypoints of one name count in whatever category they are.")
    ] = False,
    target_masks: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Search only a part of each of IMAGES: the mask in this folder that is named as it.",
            show_default="all of it",
        ),
    ] = None,
    rounds: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Search IMAGES for keypoints N times: those that were certain are references for the others the next "
            "time; no REF is named then.",
        ),
    ] = 1,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="File to write, .json (COCO), .csv or .xml (CVAT), or a folder (labelme, PNG, YOLO); - sends a file "
            "to stdout.",
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
    engine: EngineOptions = THIS_PROCESS,
    resume: Annotated[
        bool, typer.Option("--resume", help="Skip images whose file is there; of formats with a file an image.")
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Transfer the keypoints, masks or boxes annotated on REF to other IMAGES, each with its confidence.

    Without REF, transfer from all images that FILE annotates: `geomatch transfer photos/ --keypoints refs.json`.
    Prints one line of JSON per image: what was found, or why nothing was. -o writes files in the format that was read.
    An image that cannot be used does not stop the others; the exit status is then 1. Under torchrun each process takes
    its part of the images.
    """
    kind, file = _annotation_file(keypoints, mask, boxes)
    pipeline = replace(pipeline, zoom=_zoom(pipeline.zoom, masked=target_masks is not None))
    existing = _existing(output, format, resume=resume, overwrite=overwrite)
    worker = engine.open(pipeline.device)
    several = _from_several(images, file, asked=bool(references or places or across_categories or rounds > 1))

    if several and not (ignore_label is None and mask_threshold is None):
        raise InputError(
            "--ignore-label and --mask-threshold are for the label image of one REF: name it, or leave them out"
        )

    from geomatch.batch.match_record import settings_record
    from geomatch.io.annotations.files import open_output, output_format
    from geomatch.io.annotations.label_image import LabelRules
    from geomatch.io.atomic import STDOUT
    from geomatch.runtime.device import assign_gpu
    from geomatch.runtime.engines.engine import Once
    from geomatch.runtime.shard import Shard
    from geomatch.transfer.manifest import FOLDER, Manifest
    from geomatch.transfer.outputs import TransferOutputs
    from geomatch.transfer.reference import Reference
    from geomatch.transfer.references.reference_set import leave_out_references, read_references
    from geomatch.transfer.references.rounds import Rounds
    from geomatch.transfer.references.transfer import ReferenceChoice, ReferenceTransfer, default_features
    from geomatch.transfer.review import open_review
    from geomatch.transfer.target_masks import TargetMasks
    from geomatch.transfer.transfer_many import TransferJob, name_targets, transfer_many

    share = Shard.from_environment()
    choice = ReferenceChoice(references or DEFAULT_REFERENCES[kind], across_categories, min_confidence)
    if several:
        marked = read_references(file, kind, places or (), folders_of(images), strict=strict)
        names = leave_out_references(expand_names(images, null=null), marked)
    else:
        labels = LabelRules(ignore_label, mask_threshold)
        marked = Reference.read(images[0], file, kind, strict=strict, labels=labels)
        names = expand_names(images[1:], null=null)
    files, processes = None, share.count + worker.remote
    _check_rounds(rounds, marked, processes=processes, masked=target_masks is not None)
    written = output_format(output, format, marked.annotations.format) if output else marked.annotations.format
    targets = share.part(name_targets(names))
    masks = TargetMasks.open(target_masks, targets) if target_masks else None
    if output:
        annotations = marked.annotations
        files = open_output(output, written, kind, annotations, targets, existing=existing, processes=processes)
    labelme = output if written is AnnotationFormat.labelme else None
    pictures = open_review(review, marked, share, existing, labelme) if review else None

    assign_gpu()
    if not (pipeline.features or pipeline.weights):
        pipeline = replace(pipeline, features=default_features(marked))
    build = pipeline.builder(worker)
    loaded = build()
    origin = {**choice.record(marked), **settings_record(loaded), **(masks.record() if masks else {})}
    folder = output if written in FOLDER_FORMATS else None
    opened = Once(partial(_open, build, marked, choice))
    if rounds > 1 and isinstance(transfer := opened(), ReferenceTransfer):
        search = Rounds(rounds, origin, folder and folder / FOLDER / "rounds", existing)
        with counting_bar("choosing references", (rounds - 1) * len(targets), quiet=quiet) as advance:
            last = search.adopt(transfer, targets, advance)
        notify(f"{len(last.references.adopted)} of {len(targets)} images are references in the last round")
        marked, opened = last.references, Once(lambda: last)
        pictures = pictures and replace(pictures, others=marked.images)
    manifest = Manifest({**marked.record(), **origin}, existing) if folder else None
    if manifest and folder:
        manifest.clear_unfinished(folder)
    job = TransferJob(
        opened,
        TransferOutputs(files, manifest, pictures),
        output,
        resume,
        again=existing is Existing.refused,
        masks=masks,
    )
    finished = transfer_many(targets, job, worker)
    report = ItemReport("transferring", "image", lambda record: record["image"], _outcome, silent=output == STDOUT)
    report_items(finished, report, len(targets), share, quiet=quiet)


def _open(
    build: Callable[[], Pipeline], marked: Reference | ReferenceSet, choice: ReferenceChoice
) -> InstanceTransfer | ReferenceTransfer:
    from geomatch.transfer.references.transfer import open_transfer

    return open_transfer(build(), marked, choice)


def _zoom(choice: Zoom | None, *, masked: bool) -> Zoom:
    """Whether to look closer: only if asked for, and not if masks say where to look. Raises InputError."""
    if choice is Zoom.on and masked:
        raise InputError("--zoom on looks where it sees an object, --target-masks where they say: leave one out")
    return choice or Zoom.off


def _check_rounds(rounds: int, marked: Reference | ReferenceSet, *, processes: int, masked: bool) -> None:
    from geomatch.transfer.references.reference_set import ReferenceSet

    if rounds > 1 and not (isinstance(marked, ReferenceSet) and marked.kind is AnnotationKind.keypoints):
        raise InputError("--rounds is for the keypoints of several annotated images: give them, or leave it out")
    if rounds > 1 and processes > 1:
        raise InputError("--rounds chooses references among all images: run it as one process, or leave it out")
    if rounds > 1 and masked:
        raise InputError("--rounds searches whole images: leave it out, or --target-masks")


def _from_several(images: Sequence[Path], file: Path, *, asked: bool) -> bool:
    """Whether FILE names the references, not the first of the images.

    That is so if an option asks for it, where the first cannot be a reference, and where none would be left.
    """
    return asked or file.is_dir() or len(images) == 1 or images[0].is_dir()


def _existing(output: Path | None, format: AnnotationFormat | None, *, resume: bool, overwrite: bool) -> Existing:
    """What to do about files that exist. Raises InputError for options that do not go together."""
    if format and not output:
        raise InputError("--format says what -o writes: give -o, too")
    if resume and overwrite:
        raise InputError("--resume keeps what is there and --overwrite does all again: give one of them")
    if resume and not output:
        raise InputError("--resume skips images whose file is there: give -o DIR, and --format labelme, png or yolo")
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
