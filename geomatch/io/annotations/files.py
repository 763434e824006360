"""Reading and writing annotations in any format: COCO, labelme, label images or tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from geomatch.annotations import AnnotatedImage, Annotations, Instance, Keypoints, Region, Target
from geomatch.errors import InputError
from geomatch.io.annotations.coco import CocoDocument, is_coco, read_coco
from geomatch.io.annotations.csv_table import AnnotationTable, read_annotation_table
from geomatch.io.annotations.label_image import encode_label_image, read_label_image
from geomatch.io.annotations.labelme import encode_labelme, is_labelme, read_labelme
from geomatch.io.atomic import check_new_file, check_new_folder, is_special, write_atomically
from geomatch.io.json_text import read_json
from geomatch.options import FOLDER_FORMATS, AnnotationFormat, AnnotationKind, Existing

HOLDS: Mapping[AnnotationFormat, frozenset[AnnotationKind]] = {
    AnnotationFormat.coco: frozenset(AnnotationKind),
    AnnotationFormat.labelme: frozenset(AnnotationKind),
    AnnotationFormat.png: frozenset({AnnotationKind.masks}),
    AnnotationFormat.csv: frozenset({AnnotationKind.keypoints, AnnotationKind.boxes}),
}
"""What each format can hold."""

MAX_OUTSIDE = 1.0
"""How far beyond the border, in pixels, a point may lie: rounding and 1-based counting put some there."""

_DOCUMENTS = {AnnotationFormat.coco: ".json", AnnotationFormat.csv: ".csv"}
"""Suffixes of the files that hold several images."""

_LABEL_IMAGES = frozenset({".png", ".bmp", ".tif", ".tiff", ".gif"})
_TABLES = frozenset({".csv", ".tsv"})


def read_annotations(path: Path, kind: AnnotationKind, image: Path, size: tuple[int, int]) -> Annotations:
    """The annotations of one kind that a file has for ``image``, whose size is (height, width).

    Suffix and content tell the format. Boxes are cut at the image's border. Raises InputError, naming the file and what
    is wrong in it: it cannot be read, its format is unknown or cannot hold this ``kind``, it does not annotate this
    image, or a position lies outside.
    """
    found = _read(path, kind, image, size)
    if not found.instances:
        raise InputError(f"{path}: marks no {kind} on {image.name}")
    return replace(found, instances=[_checked(path, instance, image, size) for instance in found.instances])


def _read(path: Path, kind: AnnotationKind, image: Path, size: tuple[int, int]) -> Annotations:
    suffix = path.suffix.lower()
    if suffix in _LABEL_IMAGES:
        _check_holds(path, AnnotationFormat.png, kind)
        return read_label_image(path, size)
    if suffix in _TABLES:
        _check_holds(path, AnnotationFormat.csv, kind)
        return read_annotation_table(path, kind, image)
    if suffix != ".json":
        raise InputError(f"{path}: format not known; give COCO's or labelme's .json, a mask as .png, or a .csv")
    document = read_json(path)
    if is_coco(document):
        return read_coco(path, document, kind, image, size)
    if is_labelme(document):
        return read_labelme(path, document, kind, image, size)
    raise InputError(f"{path}: neither COCO (it has no 'images' and 'annotations') nor labelme (no 'shapes')")


def _check_holds(path: Path, format: AnnotationFormat, kind: AnnotationKind) -> None:
    if kind not in HOLDS[format]:
        able = ", ".join(each for each in AnnotationFormat if kind in HOLDS[each])
        raise InputError(f"{path}: the format {format} cannot hold {kind}; choose {able}")


def _checked(path: Path, instance: Instance, image: Path, size: tuple[int, int]) -> Instance:
    """The instance, its box cut at the border. Raises InputError if it lies outside."""
    height, width = size
    where = f"outside {image.name}, which is {width}x{height} pixels"
    match instance.shape:
        case Keypoints() as keypoints:
            low, high = -MAX_OUTSIDE, (width - 1 + MAX_OUTSIDE, height - 1 + MAX_OUTSIDE)
            outside = keypoints.present & ~((keypoints.points >= low) & (keypoints.points <= high)).all(axis=1)
            for k in outside.nonzero()[0]:
                x, y = keypoints.points[k]
                raise InputError(
                    f"{path}: {instance.label!r}'s point {keypoints.names[k]!r} ({x:g}, {y:g}) lies {where}"
                )
            return instance
        case Region():
            return instance
        case left, top, right, bottom:
            cut = max(left, -0.5), max(top, -0.5), min(right, width - 0.5), min(bottom, height - 0.5)
            if not (cut[0] < cut[2] and cut[1] < cut[3]):
                box = f"({left:g}, {top:g}, {right:g}, {bottom:g})"
                raise InputError(
                    f"{path}: box {instance.number}, {instance.label!r} {box}, has no area or lies {where}"
                )
            return replace(instance, shape=cut)


class AnnotationDocument:
    """One file for all images, written when it is closed. Several threads may use it."""

    def __init__(self, path: Path, document: CocoDocument | AnnotationTable, existing: Existing) -> None:
        if existing is Existing.kept:
            raise InputError(
                f"{path}: one file for all images appears when the last is done, and has to be made from the start; "
                "--resume goes on in a folder (--format labelme or png)"
            )
        check_new_file(path, overwrite=existing is Existing.replaced)
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
    """A folder with a file for each image, written at once. Several threads may use it."""

    def __init__(
        self,
        folder: Path,
        suffix: str,
        encode: Callable[[AnnotatedImage], bytes],
        targets: Sequence[Target],
        existing: Existing,
    ) -> None:
        check_new_folder(folder, overwrite=True)
        self._folder, self._suffix, self._encode = folder, suffix, encode
        files = [self.file(target) for target in targets]
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
        """Do nothing: every file is written already."""


AnnotationOutput = AnnotationDocument | AnnotationFolder


def output_format(path: Path, asked: AnnotationFormat | None, read: AnnotationFormat) -> AnnotationFormat:
    """The format in which to write ``path``: the one asked for, else its suffix's, else the one that was read.

    Raises InputError if the name does not fit the format. A device or a FIFO may have any name.
    """
    suffix = path.suffix.lower()
    chosen = asked or next((each for each, own in _DOCUMENTS.items() if own == suffix), read)
    if chosen in _DOCUMENTS and suffix != _DOCUMENTS[chosen] and not is_special(path):
        raise InputError(
            f"-o {path}: {chosen} is one file for all images, so give a name that ends in {_DOCUMENTS[chosen]}; "
            "for a folder with a file an image give --format labelme or png"
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
    _check_holds(path, format, kind)
    if processes > 1 and format not in FOLDER_FORMATS:
        raise InputError(
            f"-o {path}: {processes} processes cannot write one file; "
            "give a folder with --format labelme or png, or leave out -o and take the lines"
        )
    match format:
        case AnnotationFormat.coco:
            return AnnotationDocument(path, CocoDocument(reference), existing)
        case AnnotationFormat.csv:
            return AnnotationDocument(path, AnnotationTable(kind), existing)
        case AnnotationFormat.labelme:
            return AnnotationFolder(path, ".json", partial(encode_labelme, folder=path), targets, existing)
        case AnnotationFormat.png:
            return AnnotationFolder(path, ".png", partial(encode_label_image, reference=reference), targets, existing)
