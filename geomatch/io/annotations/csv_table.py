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
)
from geomatch.errors import InputError
from geomatch.io.annotations.omissions import Omissions
from geomatch.io.annotations.points import one_of_each, read_visibility
from geomatch.io.inputs import Input
from geomatch.io.names import could_be_one, meant_names, name_parts
from geomatch.io.parsing import reading
from geomatch.io.tables import Row, read_table
from geomatch.options import AnnotationFormat, AnnotationKind

SIDES = ("left", "top", "right", "bottom")
COLUMNS = {
    AnnotationKind.keypoints: ("image", "object", "label", "name", "x", "y", "visibility", "confidence"),
    AnnotationKind.boxes: ("image", "object", "label", *SIDES, "visibility", "confidence"),
}


def read_annotation_table(source: Input, kind: AnnotationKind, image: Path, omissions: Omissions) -> Annotations:
    """The annotations of an image: those in its rows, or in all rows if there is no column `image`.

    Keypoints need the columns x and y, and name to have names; boxes left, top, right and bottom. Points with the same
    `object` and `label` are one instance; the second point of a name begins another. ``omissions`` takes the rows that
    cannot be used. Raises InputError.
    """
    wanted = ("x", "y") if kind is AnnotationKind.keypoints else SIDES
    rows = _rows_of(image, list(read_table(source, wanted, optional=COLUMNS[kind])), omissions)
    shapes = (_read_boxes if kind is AnnotationKind.boxes else _read_keypoints)(rows, omissions)
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


def _rows_of(image: Path, rows: Sequence[Row], omissions: Omissions) -> list[Row]:
    """The rows that mean an image, see `meant_names`. Raises InputError if they are of several images of its name."""
    if not rows or "image" not in rows[0].columns:
        return list(rows)
    names = {row.fields.get("image", "") for row in rows}
    meant = meant_names(names, image)
    if not could_be_one(meant):
        raise InputError(f"{omissions.origin}: has rows of several images named {image.name}, and none of its folder")
    alike = [row for row in rows if name_parts(row.fields.get("image", ""))[-1:] == name_parts(image.name)]
    if others := sum(row.fields["image"] not in meant for row in alike):
        omissions.others[f"of an image {image.name} in another folder"] += others
    return [row for row in rows if row.fields.get("image") in meant]


def _read_boxes(rows: Sequence[Row], omissions: Omissions) -> Iterator[tuple[str, Keypoints | Box]]:
    for row in rows:
        box: Box | None = None
        with omissions.tolerated():
            left, top, right, bottom = (row.position(side) for side in SIDES)
            box = left, top, right, bottom
        if box:
            yield row.fields.get("label") or UNNAMED, box


def _read_keypoints(rows: Sequence[Row], omissions: Omissions) -> Iterator[tuple[str, Keypoints | Box]]:
    instances: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        instances.setdefault((row.fields.get("object", ""), row.fields.get("label") or UNNAMED), []).append(row)
    for (_, label), members in instances.items():
        points: list[tuple[str, Visibility, tuple[float, float]]] = []
        for number, row in enumerate(members, 1):
            with omissions.tolerated():
                points.append((row.fields.get("name") or str(number), *_read_point(row)))
        for part in one_of_each([name for name, *_ in points]):
            names, seen, positions = zip(*(points[place] for place in part), strict=True)
            yield label, Keypoints(names, np.array(positions, dtype=np.float64), np.array(seen, dtype=np.int64))


def _read_point(row: Row) -> tuple[Visibility, tuple[float, float]]:
    """Visibility and position of a point. The position of an absent one is not read. Raises InputError."""
    with reading(f"{row.origin}, column 'visibility'"):
        visibility = read_visibility(row.fields.get("visibility") or Visibility.seen)
    if visibility is Visibility.absent:
        return visibility, (0.0, 0.0)
    return visibility, (row.position("x"), row.position("y"))


def _cells(instance: Instance) -> Iterator[list[object]]:
    match instance.shape:
        case Keypoints() as keypoints:
            for name, position, visibility, confidence in keypoints.rounded():
                yield [name, *position, visibility, "" if confidence is None else confidence]
        case left, top, right, bottom:
            sides = (round(side, 2) for side in (left, top, right, bottom))
            yield [*sides, int(instance.visibility), "" if instance.confidence is None else instance.confidence]
