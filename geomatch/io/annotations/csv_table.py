"""Keypoints and boxes as a CSV table, a row each, in geomatch's own frame: pixel centres at integers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
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
from geomatch.io.annotations.points import box_between, one_of_each, read_visibility
from geomatch.io.inputs import Input
from geomatch.io.names import could_be_one, meant_names, name_parts
from geomatch.io.parsing import reading
from geomatch.io.tables import Layout, Row, kinds_of, read_table
from geomatch.options import AnnotationFormat, AnnotationKind

SIDES = ("left", "top", "right", "bottom")
COLUMNS = {
    AnnotationKind.keypoints: ("image", "object", "label", "name", "x", "y", "visibility", "confidence"),
    AnnotationKind.boxes: ("image", "object", "label", *SIDES, "visibility", "confidence"),
}
"""What is written, and read by the same names."""

_CORNER_AND_SIZE = ("left", "top", "width", "height")
_CENTRE_AND_SIZE = ("centre_x", "centre_y", "width", "height")


def _aliases(**names: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, aliases in names.items():
        for alias in aliases.split():
            found.setdefault(alias, []).append(name)
    return found


_COMMON = _aliases(
    image="image_id file filename file_name image_name image_file image_path image_filename img path filepath",
    object="instance instance_id object_id group group_id individual",
    label="class category class_name category_name label_name cls",
    visibility="visible vis v",
    confidence="score likelihood probability",
)
_POINTS = _aliases(
    name="keypoint keypoint_name point point_name landmark landmark_name part part_name bodypart bodyparts joint",
    x="x_px px x_pixel pixel_x x_coord x_coordinate coord_x pos_x x_pos point_x",
    y="y_px py y_pixel pixel_y y_coord y_coordinate coord_y pos_y y_pos point_y",
)
_BOXES = _aliases(
    left="x x0 x1 bx xmin x_min min_x x_left xtl bbox_x bbox_left bbox_xmin box_x",
    top="y y0 y1 by ymin y_min min_y y_top ytl bbox_y bbox_top bbox_ymin box_y",
    right="x1 x2 xmax x_max max_x x_right xbr bbox_right bbox_xmax",
    bottom="y1 y2 ymax y_max max_y y_bottom ybr bbox_bottom bbox_ymax",
    width="w bbox_width bbox_w box_w box_width",
    height="h bbox_height bbox_h box_h box_height",
    centre_x="cx xc x_center x_centre center_x xcenter",
    centre_y="cy yc y_center y_centre center_y ycenter",
)
_BARE = {
    AnnotationKind.keypoints: {
        "##": ("x", "y"),
        "t##": ("name", "x", "y"),
        "f##": ("image", "x", "y"),
        "ft##": ("image", "name", "x", "y"),
        "t###": ("name", "x", "y", "visibility"),
        "ft###": ("image", "name", "x", "y", "visibility"),
        "t##f##": ("name", "x", "y", "image", "image_width", "image_height"),  # of makesense.ai
    },
    AnnotationKind.boxes: {
        "f####t": ("image", *SIDES, "label"),  # of RetinaNet
        "t####f##": ("label", *_CORNER_AND_SIZE, "image", "image_width", "image_height"),  # of makesense.ai
    },
}
"""What is meant where no line names the columns, by `kinds_of` the first line. Four numbers alone may be two forms."""


def _bare_points(values: Sequence[str]) -> Sequence[str] | None:
    return _BARE[AnnotationKind.keypoints].get(kinds_of(values))


def _bare_boxes(values: Sequence[str]) -> Sequence[str] | None:
    """YOLO's columns too: a class, shares of the image's sides, and perhaps a confidence."""
    kinds = kinds_of(values)
    if kinds in ("#####", "######") and all(0 <= float(value) <= 1 for value in values[1:5]):
        return ("label", *_CENTRE_AND_SIZE, "confidence")[: len(kinds)]
    return _BARE[AnnotationKind.boxes].get(kinds)


POINT_LAYOUT = Layout(("x", "y"), (), COLUMNS[AnnotationKind.keypoints], _COMMON | _POINTS, _bare_points)
BOX_LAYOUT = Layout(
    SIDES, (_CORNER_AND_SIZE, _CENTRE_AND_SIZE), COLUMNS[AnnotationKind.boxes], _COMMON | _BOXES, _bare_boxes
)


def read_annotation_table(
    source: Input, kind: AnnotationKind, image: Path, size: tuple[int, int], omissions: Omissions
) -> Annotations:
    """The annotations of an image of ``size`` (height, width): those in its rows, or in all rows if there is no column
    `image`.

    Keypoints need the columns x and y, and name to have names; boxes left, top, right and bottom, or two of them with
    width and height. Other programs' names of columns are known. Points with the same `object` and `label` are one
    instance; the second point of a name begins another. ``omissions`` takes the rows that cannot be used, and what is
    assumed of a table that does not name its columns. Raises InputError.
    """
    layout = BOX_LAYOUT if kind is AnnotationKind.boxes else POINT_LAYOUT
    table = list(read_table(source, layout))
    if table and table[0].bare:
        omissions.assumed(f"its first line names no columns; they are read as {', '.join(table[0].columns)}")
    rows = _rows_of(image, table, omissions)
    frame = _frame_of(rows, size)
    if frame.is_shares:
        omissions.assumed("all its positions lie between 0 and 1, and are shares of the image's sides")
    shapes = (_read_boxes if kind is AnnotationKind.boxes else _read_keypoints)(rows, frame, omissions)
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


@dataclass(frozen=True)
class _Frame:
    """How positions in a table become pixels: times the unit (x, y), from the corner of the first pixel if they are
    shares of the image's sides."""

    unit: tuple[float, float] = (1.0, 1.0)
    is_shares: bool = False

    def point(self, row: Row, x: str, y: str) -> tuple[float, float]:
        """Raises InputError."""
        start = 0.5 if self.is_shares else 0.0
        return row.position(x) * self.unit[0] - start, row.position(y) * self.unit[1] - start

    def extent(self, row: Row) -> tuple[float, float]:
        """Width and height. Raises InputError."""
        return row.position("width") * self.unit[0], row.position("height") * self.unit[1]


def _frame_of(rows: Sequence[Row], size: tuple[int, int]) -> _Frame:
    """The frame of rows. Points in the first pixel alone, and fractions of it, are no pixels."""
    fractions = 0
    for row in rows:
        for column in ("x", "y", *SIDES, "centre_x", "centre_y"):
            with suppress(InputError):
                value = row.position(column) if row.fields.get(column) else 0.0
                if not 0 <= value <= 1:
                    return _Frame()
                fractions += 0 < value < 1
    return _Frame((float(size[1]), float(size[0])), is_shares=True) if fractions else _Frame()


def _read_boxes(rows: Sequence[Row], frame: _Frame, omissions: Omissions) -> Iterator[tuple[str, Keypoints | Box]]:
    for row in rows:
        box: Box | None = None
        with omissions.tolerated():
            box = _read_box(row, frame)
        if box:
            yield row.fields.get("label") or UNNAMED, box


def _read_box(row: Row, frame: _Frame) -> Box:
    """The box in whatever columns a table has. Raises InputError."""
    lacking = {each for each in SIDES if each not in row.columns}
    if not lacking:
        return box_between(frame.point(row, "left", "top"), frame.point(row, "right", "bottom"))
    width, height = frame.extent(row)
    if lacking <= {"right", "bottom"}:
        left, top = frame.point(row, "left", "top")
    else:
        x, y = frame.point(row, "centre_x", "centre_y")
        left, top = x - width / 2, y - height / 2
    return box_between((left, top), (left + width, top + height))


def _read_keypoints(rows: Sequence[Row], frame: _Frame, omissions: Omissions) -> Iterator[tuple[str, Keypoints | Box]]:
    instances: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        instances.setdefault((row.fields.get("object", ""), row.fields.get("label") or UNNAMED), []).append(row)
    for (_, label), members in instances.items():
        points: list[tuple[str, Visibility, tuple[float, float]]] = []
        for number, row in enumerate(members, 1):
            with omissions.tolerated():
                points.append((row.fields.get("name") or str(number), *_read_point(row, frame)))
        for part in one_of_each([name for name, *_ in points]):
            names, seen, positions = zip(*(points[place] for place in part), strict=True)
            yield label, Keypoints(names, np.array(positions, dtype=np.float64), np.array(seen, dtype=np.int64))


def _read_point(row: Row, frame: _Frame) -> tuple[Visibility, tuple[float, float]]:
    """Visibility and position of a point. The position of an absent one is not read. Raises InputError."""
    with reading(f"{row.origin}, column 'visibility'"):
        visibility = read_visibility(row.fields.get("visibility") or Visibility.seen)
    if visibility is Visibility.absent:
        return visibility, (0.0, 0.0)
    return visibility, frame.point(row, "x", "y")


def _cells(instance: Instance) -> Iterator[list[object]]:
    match instance.shape:
        case Keypoints() as keypoints:
            for name, position, visibility, confidence in keypoints.rounded():
                yield [name, *position, visibility, "" if confidence is None else confidence]
        case left, top, right, bottom:
            sides = (round(side, 2) for side in (left, top, right, bottom))
            yield [*sides, int(instance.visibility), "" if instance.confidence is None else instance.confidence]
