"""Reading and writing annotations in any format: COCO, labelme, label images or tables, and other tools' exports."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from geomatch.annotations import AnnotatedImage, Annotations, Instance, Keypoints, Region, Target, Visibility
from geomatch.errors import InputError
from geomatch.io.annotations.coco import as_coco, read_coco
from geomatch.io.annotations.csv_table import AnnotationTable, read_annotation_table
from geomatch.io.annotations.exports.createml import is_createml, read_createml
from geomatch.io.annotations.exports.label_studio import is_label_studio, read_label_studio
from geomatch.io.annotations.exports.via import is_via, is_via_table, read_via, read_via_table
from geomatch.io.annotations.exports.xml_files import read_xml
from geomatch.io.annotations.exports.yolo import DATA_FILE, is_yolo_pose, read_yolo_pose
from geomatch.io.annotations.label_image import (
    DEFAULT_RULES,
    LabelRules,
    check_labels,
    encode_label_image,
    read_label_image,
)
from geomatch.io.annotations.labelme import encode_labelme, is_labelme, read_labelme
from geomatch.io.annotations.omissions import Omissions
from geomatch.io.annotations.orientation import UPRIGHT, swaps_sides, turn_upright
from geomatch.io.annotations.writers.coco import CocoDocument
from geomatch.io.annotations.writers.cvat import CvatDocument
from geomatch.io.annotations.writers.label_studio import LabelStudioDocument
from geomatch.io.annotations.writers.yolo import encode_yolo, encode_yolo_data
from geomatch.io.atomic import STDOUT, check_new_folder, check_output, is_special, write_atomically
from geomatch.io.images import image_suffixes, open_picture
from geomatch.io.inputs import Input, InputFile, read_input
from geomatch.io.json_text import read_json
from geomatch.io.names import meant_names
from geomatch.io.parsing import StatedSizeError, reading
from geomatch.io.remote.objects import url_of
from geomatch.io.tables import read_table
from geomatch.options import FOLDER_FORMATS, AnnotationFormat, AnnotationKind, Existing

HOLDS: Mapping[AnnotationFormat, frozenset[AnnotationKind]] = {
    AnnotationFormat.coco: frozenset(AnnotationKind),
    AnnotationFormat.labelme: frozenset(AnnotationKind),
    AnnotationFormat.png: frozenset({AnnotationKind.masks}),
    AnnotationFormat.csv: frozenset({AnnotationKind.keypoints, AnnotationKind.boxes}),
    AnnotationFormat.yolo: frozenset({AnnotationKind.keypoints, AnnotationKind.boxes}),
    AnnotationFormat.cvat: frozenset(AnnotationKind),
    AnnotationFormat.label_studio: frozenset(AnnotationKind),
}
"""What each format can hold."""

MAX_OUTSIDE = 1.0
"""How far beyond the border, in pixels, a point may lie: rounding and 1-based counting put some there."""

_DOCUMENTS = {
    AnnotationFormat.coco: ".json",
    AnnotationFormat.csv: ".csv",
    AnnotationFormat.cvat: ".xml",
    AnnotationFormat.label_studio: ".json",
}
"""Suffixes of the files that hold several images."""

_FOLDERS = "labelme, png or yolo"

_OPTIONS = {
    AnnotationKind.keypoints: "--keypoints",
    AnnotationKind.masks: "--mask",
    AnnotationKind.boxes: "--boxes",
}
TABLES = frozenset({".csv", ".tsv", ".txt", ".jsonl", ".ndjson"})
"""Suffixes of tables."""


def read_annotations(
    source: Input,
    kind: AnnotationKind,
    image: Path,
    size: tuple[int, int],
    *,
    orientation: int = UPRIGHT,
    strict: bool = False,
    labels: LabelRules = DEFAULT_RULES,
) -> Annotations:
    """The annotations of one kind that a file has for ``image``, whose size is (height, width).

    Suffix and content tell the format; of a pipe, or a file without a suffix, the content alone. Boxes are cut at the
    image's border. Items that cannot be used, that lie outside or are of another kind are left out, with one
    GeomatchWarning that counts them.

    Args:
        orientation: how the image is stored, as EXIF numbers it. A file that states the size of the stored image, with
            its sides exchanged, is turned with it.
        strict: refuse a file with an item that cannot be used.
        labels: how a label image is read.

    Raises InputError, naming the file and what is wrong in it: it cannot be read, its format is unknown or cannot hold
    this ``kind``, it does not annotate this image, or no item is left.
    """
    file = read_input(source)
    omissions = Omissions(str(file), strict)
    found = gather_annotations(file, kind, image, size, omissions, orientation=orientation, labels=labels)
    if not found.instances:
        reason = omissions.summary()
        others = [] if omissions.faults else [_OPTIONS[each] for each in _other_kinds(file, kind, image, size, labels)]
        held = f"; what it marks is read with {' or '.join(others)}" if others else ""
        raise InputError(f"{file}: marks no {kind} on {image.name}{f' ({reason})' if reason else ''}{held}")
    omissions.warn()
    return found


def gather_annotations(
    file: InputFile,
    kind: AnnotationKind,
    image: Path,
    size: tuple[int, int],
    omissions: Omissions,
    *,
    orientation: int = UPRIGHT,
    labels: LabelRules = DEFAULT_RULES,
) -> Annotations:
    """`read_annotations` without a note, and perhaps without an instance; ``omissions`` takes what is left out."""
    try:
        found = _read(file, kind, image, size, omissions, labels)
    except StatedSizeError:
        if not swaps_sides(orientation):
            raise
        stored = _read(file, kind, image, size[::-1], omissions, labels)
        found = replace(stored, instances=[turn_upright(each, orientation, size) for each in stored.instances])
        omissions.assumed("it is of the photograph as it is stored, and is turned upright with it")
    usable = [_checked(instance, image, size, omissions) for instance in found.instances]
    return replace(found, instances=[replace(each, number=n) for n, each in enumerate(filter(None, usable), 1)])


def _other_kinds(
    file: InputFile, asked: AnnotationKind, image: Path, size: tuple[int, int], labels: LabelRules
) -> list[AnnotationKind]:
    """The kinds of annotations, besides the one that was asked for, that a file has for an image."""
    found = []
    for kind in AnnotationKind:
        with suppress(InputError):
            if kind is not asked and _read(file, kind, image, size, Omissions(str(file)), labels).instances:
                found.append(kind)
    return found


def _read(
    file: InputFile,
    kind: AnnotationKind,
    image: Path,
    size: tuple[int, int],
    omissions: Omissions,
    labels: LabelRules,
) -> Annotations:
    suffix = suffix_of(file)
    if suffix in image_suffixes():
        check_holds(file, AnnotationFormat.png, kind)
        return read_label_image(file, size, labels)
    if suffix not in (*TABLES, ".json", ".xml"):
        raise InputError(
            f"{file}: format not known; give COCO's or labelme's .json, a mask as .png, a .csv, "
            "or an export of CVAT, Label Studio or VIA"
        )
    document: Any = read_json(file) if suffix == ".json" else None
    if coco := as_coco(document):
        return read_coco(coco, kind, image, size, omissions)
    if suffix == ".txt" and kind is AnnotationKind.keypoints and is_yolo_pose(file.text):
        return read_labelme(read_yolo_pose(file, size, omissions), kind, image, size, omissions)
    if suffix in TABLES and not is_via_table(file.text):
        check_holds(file, AnnotationFormat.csv, kind)
        return read_annotation_table(file, kind, image, size, omissions)
    shapes = document if is_labelme(document) else _read_export(file, suffix, document, image, omissions)
    return read_labelme(shapes, kind, image, size, omissions)


def _read_export(file: InputFile, suffix: str, document: Any, image: Path, omissions: Omissions) -> Mapping[str, Any]:
    """What another tool's file says of an image, as labelme says it. Raises InputError."""
    choose = partial(_choose_image, str(file), image)
    with reading(str(file)):
        if suffix == ".xml":
            return read_xml(file, choose, omissions)
        if suffix in TABLES:
            return read_via_table(list(read_table(file)), choose, omissions)
        if is_via(document):
            return read_via(document, choose, omissions)
        if is_createml(document):
            return read_createml(document, choose, omissions)
        if is_label_studio(document):
            return read_label_studio(document, choose, omissions)
    raise InputError(
        f"{file}: neither COCO (it has no 'images' and 'annotations') nor labelme (no 'shapes'), "
        "nor an export of Label Studio or VIA"
    )


def _choose_image(origin: str, image: Path, names: Collection[str]) -> str:
    """The name that means an image, see `meant_names`; the only one if it is empty. Raises InputError."""
    meant = set(names) if set(names) == {""} else meant_names(names, image)
    if len(meant) != 1:
        named = ", ".join(sorted(name or "one without a name" for name in names)[:3]) or "none"
        many = f"several images named {image.name}" if meant else f"no image {image.name} among its images ({named})"
        raise InputError(f"{origin}: has {many}; it should have one")
    return meant.pop()


def suffix_of(file: InputFile) -> str:
    """The suffix that a file has or, if its content alone can tell the format, should have; "" if neither is known."""
    suffix = file.path.suffix.lower()
    if suffix in image_suffixes() | TABLES | {".json", ".xml"} or (suffix and file.repeatable):
        return suffix
    with suppress(InputError), open_picture(io.BytesIO(file.content), str(file)):
        return ".png"
    with suppress(InputError):
        start = file.text.lstrip("\ufeff \t\r\n")[:1]
        return {"{": ".json", "[": ".json", "<": ".xml"}.get(start, ".csv")
    return ""


def check_holds(path: Input, format: AnnotationFormat, kind: AnnotationKind) -> None:
    """Raise InputError if a format has no annotations of a kind."""
    if kind not in HOLDS[format]:
        able = ", ".join(each for each in AnnotationFormat if kind in HOLDS[each])
        raise InputError(f"{path}: the format {format} cannot hold {kind}; choose {able}")


def _checked(instance: Instance, image: Path, size: tuple[int, int], omissions: Omissions) -> Instance | None:
    """The instance without points that lie outside, its box cut at the border; None if nothing of it is left."""
    height, width = size
    where = f"outside {image.name}, which is {width}x{height} pixels"
    item = f"{instance.label!r}"
    match instance.shape:
        case Keypoints() as keypoints:
            low, high = -MAX_OUTSIDE, (width - 1 + MAX_OUTSIDE, height - 1 + MAX_OUTSIDE)
            outside = keypoints.present & ~((keypoints.points >= low) & (keypoints.points <= high)).all(axis=1)
            for k in outside.nonzero()[0]:
                x, y = keypoints.points[k]
                omissions.fault(item, f"its point {keypoints.names[k]!r} ({x:g}, {y:g}) lies {where}")
            seen = np.where(outside, Visibility.absent, keypoints.visibility)
            if not seen.any():
                omissions.others["without a keypoint that is marked"] += 1
            return replace(instance, shape=replace(keypoints, visibility=seen)) if seen.any() else None
        case Region() as region:
            if not region.mask.any():
                omissions.fault(item, f"its mask has no pixel of {image.name}")
            return instance if region.mask.any() else None
        case left, top, right, bottom:
            cut = max(left, -0.5), max(top, -0.5), min(right, width - 0.5), min(bottom, height - 0.5)
            if not (cut[0] < cut[2] and cut[1] < cut[3]):
                box = f"({left:g}, {top:g}, {right:g}, {bottom:g})"
                omissions.fault(f"box {instance.number}, {item}", f"{box} has no area or lies {where}")
                return None
            return replace(instance, shape=cut)


_Document = CocoDocument | AnnotationTable | CvatDocument | LabelStudioDocument


class AnnotationDocument:
    """One file for all images, written when it is closed. Several threads may use it."""

    def __init__(self, path: Path, document: _Document, existing: Existing) -> None:
        if existing is Existing.kept:
            raise InputError(
                f"{path}: one file for all images appears when the last is done, and has to be made from the start; "
                f"--resume goes on in a folder (--format {_FOLDERS})"
            )
        check_output(path, overwrite=existing is Existing.replaced)
        self._path, self._document = path, document

    def file(self, target: Target) -> Path:  # noqa: ARG002
        """The file that an image's annotations are, or will be, in."""
        return self._path

    def add(self, target: Target, found: AnnotatedImage) -> None:
        """Take the annotations of an image."""
        self._document.add(target.number, found)

    def close(self) -> None:
        """Write the file. Raises InputError."""
        write_atomically(self._path, self._document.content())


class AnnotationFolder:
    """A folder with a file for each image, written at once. Several threads may use it.

    others: the content of files that the folder has besides, by their names.
    """

    def __init__(
        self,
        folder: Path,
        suffix: str,
        encode: Callable[[AnnotatedImage], bytes],
        targets: Sequence[Target],
        existing: Existing,
        others: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:
        if url_of(folder):
            raise InputError(f"{url_of(folder)}: a file an image goes to a folder on a disk; give one")
        check_new_folder(folder, overwrite=True)
        self._folder, self._suffix, self._encode = folder, suffix, encode
        self._others = {folder / name: content for name, content in others.items()}
        if existing is Existing.kept:
            self._others = {file: content for file, content in self._others.items() if not file.exists()}
        files = [*(self.file(target) for target in targets), *self._others]
        if existing is Existing.refused and (there := [file for file in files if file.exists()]):
            raise InputError(
                f"{there[0]}: exists already; go on there with --resume, do all again with --overwrite, "
                "or give another folder with -o"
            )

    def file(self, target: Target) -> Path:
        return self._folder / f"{target.stem}{self._suffix}"

    def add(self, target: Target, found: AnnotatedImage) -> None:
        """Write the annotations of an image. Raises InputError."""
        content = self._encode(found)
        write_atomically(self.file(target), content)

    def close(self) -> None:
        """Write the other files; those of the images are there already. Raises InputError."""
        for file, content in self._others.items():
            write_atomically(file, content)


AnnotationOutput = AnnotationDocument | AnnotationFolder


def output_format(path: Path, asked: AnnotationFormat | None, read: AnnotationFormat) -> AnnotationFormat:
    """The format in which to write ``path``: the one asked for, else its suffix's, else the one that was read.

    Raises InputError if the name does not fit the format. A device, a FIFO or ``-`` may have any.
    """
    suffix = path.suffix.lower()
    chosen = asked or next((each for each, own in _DOCUMENTS.items() if own == suffix), read)
    if path == STDOUT:
        if chosen not in _DOCUMENTS:
            raise InputError(
                f"-o -: {chosen} is a folder with a file an image, and stdout takes one file; "
                "give --format coco, csv, cvat or label-studio, or a folder"
            )
    elif chosen in _DOCUMENTS and suffix != _DOCUMENTS[chosen] and not is_special(path):
        raise InputError(
            f"-o {path}: {chosen} is one file for all images, so give a name that ends in {_DOCUMENTS[chosen]}; "
            f"for a folder with a file an image give --format {_FOLDERS}"
        )
    return chosen


def open_output(
    path: Path,
    format: AnnotationFormat,
    kind: AnnotationKind,
    reference: Annotations,
    targets: Sequence[Target],
    *,
    existing: Existing,
    processes: int = 1,
) -> AnnotationOutput:
    """A folder for ``targets`` if ``format`` is one of `FOLDER_FORMATS`, otherwise one document.

    processes: how many share the work. Raises InputError, before any work, if the format cannot hold ``kind`` or be
    written by several processes, if the path cannot be written, or if a file exists and is not to be replaced.
    """
    check_holds(path, format, kind)
    if processes > 1 and format not in FOLDER_FORMATS:
        raise InputError(
            f"-o {path}: {processes} processes cannot write one file; "
            f"give a folder with --format {_FOLDERS}, or leave out -o and take the lines"
        )
    match format:
        case AnnotationFormat.coco:
            return AnnotationDocument(path, CocoDocument(reference), existing)
        case AnnotationFormat.csv:
            return AnnotationDocument(path, AnnotationTable(kind), existing)
        case AnnotationFormat.cvat:
            return AnnotationDocument(path, CvatDocument(reference), existing)
        case AnnotationFormat.label_studio:
            return AnnotationDocument(path, LabelStudioDocument(), existing)
        case AnnotationFormat.yolo:
            others = {DATA_FILE: encode_yolo_data(reference, kind)}
            return AnnotationFolder(path, ".txt", partial(encode_yolo, reference=reference), targets, existing, others)
        case AnnotationFormat.labelme:
            return AnnotationFolder(path, ".json", partial(encode_labelme, folder=path), targets, existing)
        case AnnotationFormat.png:
            check_labels(path, reference)
            return AnnotationFolder(path, ".png", partial(encode_label_image, reference=reference), targets, existing)
