"""Keypoints and boxes as a CSV table, a row each, in geomatch's own frame: pixel centres at integers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from geomatch.annotations import (
    UNNAMED,
    AnnotatedImage,
    Annotations,
    Box,
    Instance,
    Keypoints,
    Visibility,
    categories_of,
    named_keypoints,
)
from geomatch.errors import InputError
from geomatch.io.parsing import reading
from geomatch.io.tables import Row, read_table
from geomatch.options import AnnotationFormat, AnnotationKind

SIDES = ("left", "top", "right", "bottom")
COLUMNS = {
    AnnotationKind.keypoints: ("image", "object", "label", "name", "x", "y", "visibility", "confidence"),
    AnnotationKind.boxes: ("image", "object", "label", *SIDES, "visibility", "confidence"),
}


def read_annotation_table(path: Path, kind: AnnotationKind, image: Path) -> Annotations:
    """The annotations of an image: those in its rows, or in all rows if there is no column `image`.

    Keypoints need the columns x and y, and name to have names; boxes left, top, right and bottom. Points with the same
    `object` and `label` are one instance. Raises InputError.
    """
    wanted = ("x", "y") if kind is AnnotationKind.keypoints else SIDES
    rows = [row for row in read_table(path, wanted) if Path(row.fields.get("image", image.name)).name == image.name]
    shapes = _read_boxes(rows) if kind is AnnotationKind.boxes else _read_keypoints(path, rows)
    instances = [Instance(label, number, shape) for number, (label, shape) in enumerate(shapes, 1)]
    return Annotations(instances, AnnotationFormat.csv, categories_of(instances))


class AnnotationTable:
    """A table of annotations that are transferred to images; it takes them in any order and lists them by number."""

    def __init__(self, kind: AnnotationKind) -> None:
        self._head = _lines([COLUMNS[kind]])
        self._lines: dict[int, str] = {}

    def add(self, number: int, image: AnnotatedImage) -> None:
        self._lines[number] = _lines(
            [image.name, instance.number, instance.label, *cells]
            for instance in image.instances
            for cells in _cells(instance)
        )

    def content(self) -> bytes:
        text = self._head + "".join(self._lines[number] for number in sorted(self._lines))
        return text.encode(errors="surrogateescape")


def _lines(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _read_boxes(rows: Sequence[Row]) -> Iterator[tuple[str, Keypoints | Box]]:
    for row in rows:
        left, top, right, bottom = (row.position(side) for side in SIDES)
        yield row.fields.get("label") or UNNAMED, (left, top, right, bottom)


def _read_keypoints(path: Path, rows: Sequence[Row]) -> Iterator[tuple[str, Keypoints | Box]]:
    instances: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        instances.setdefault((row.fields.get("object", ""), row.fields.get("label") or UNNAMED), []).append(row)
    for (_, label), members in instances.items():
        names = [row.fields.get("name") or str(number) for number, row in enumerate(members, 1)]
        points = np.array([[row.position("x"), row.position("y")] for row in members], dtype=np.float64)
        with reading(str(path)):
            yield label, named_keypoints(names, points, [_visibility(row) for row in members])


def _visibility(row: Row) -> Visibility:
    text = row.fields.get("visibility") or str(int(Visibility.seen))
    if text not in ("0", "1", "2"):
        raise InputError(f"{row.origin}, column 'visibility': '{text}' should be 0, 1 or 2")
    return Visibility(int(text))


def _cells(instance: Instance) -> Iterator[list[object]]:
    match instance.shape:
        case Keypoints() as keypoints:
            for name, position, visibility, confidence in keypoints.rounded():
                yield [name, *position, visibility, "" if confidence is None else confidence]
        case left, top, right, bottom:
            sides = (round(side, 2) for side in (left, top, right, bottom))
            yield [*sides, int(instance.visibility), "" if instance.confidence is None else instance.confidence]
