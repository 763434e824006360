"""Where the labelled objects are in images: tables of found crops, and true boxes to compare them with.

A box is (left, top, right, bottom) in pixels of the upright image, pixel centres at integers: all of an image of W x H
pixels is (-0.5, -0.5, W - 0.5, H - 0.5).
"""

from __future__ import annotations

import csv
import io
import json
import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from geomatch.annotations import Box
from geomatch.datasets.image_folder import LABEL_TABLE, label_table, shards_of
from geomatch.datasets.image_list import LabelledImage, labels_of, names_of, take
from geomatch.errors import InputError
from geomatch.io.atomic import write_atomically
from geomatch.io.inputs import Input
from geomatch.io.names import plain_name
from geomatch.io.parsing import position, reading
from geomatch.io.tables import Layout, Row, read_table

COLUMNS = ("file", "label", "left", "top", "right", "bottom", "score")
CROP_MARGIN = 0.15


@dataclass(frozen=True)
class Crop:
    """The box of an object of class ``label`` in the image ``file``. score: its confidence in [0, 1]."""

    file: str
    label: str
    box: Box
    score: float


def write_crops(path: Path, crops: Iterable[Crop]) -> None:
    """Write one row per crop under the columns ``COLUMNS``, atomically. Raises InputError."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for crop in crops:
        rows.writerow((crop.file, crop.label, *(f"{edge:.1f}" for edge in crop.box), f"{crop.score:.4f}"))
    write_atomically(path, text.getvalue().encode())


def read_crops(source: Input) -> list[Crop]:
    """Read a table with the columns ``COLUMNS``. Raises InputError, naming the line."""
    return [_read_crop(row) for row in read_table(source, Layout(COLUMNS))]


def with_crops(
    images: Sequence[LabelledImage], crops: Iterable[Crop], *, margin: float = CROP_MARGIN
) -> Sequence[LabelledImage]:
    """Replace images by their crops.

    Each crop becomes an image with the crop's label alone; a label without a crop keeps the whole image.

    Args:
        images: the images to crop.
        crops: crops of any of their labels; crops of other labels or images are ignored.
        margin: how far a crop is grown on each side, as a share of its width or height.

    Raises:
        InputError: if no crop belongs to any of the images.
    """
    by_file: defaultdict[str, list[Crop]] = defaultdict(list)
    for crop in crops:
        by_file[plain_name(crop.file)].append(crop)
    if not any(plain_name(name) in by_file for name in names_of(images)):
        raise InputError("the crop table has none of the photographs: was it made from others?")
    rows, labels, boxes = array("q"), list[tuple[str, ...]](), list[Box | None]()

    def keep(row: int, of: tuple[str, ...], box: Box | None) -> None:
        rows.append(row)
        labels.append(of)
        boxes.append(box)

    for row, (name, shown) in enumerate(zip(names_of(images), labels_of(images), strict=True)):
        own = [crop for crop in by_file.get(plain_name(name), ()) if crop.label in shown]
        for crop in own:
            keep(row, (crop.label,), _grow(crop.box, margin))
        rest = tuple(label for label in shown if label not in {crop.label for crop in own}) if own else shown
        if rest or not own:
            keep(row, rest, None)
    return take(images, rows, labels, boxes)


def read_true_boxes(data: Sequence[Path]) -> dict[tuple[str, str], list[Box]]:
    """The true boxes of each (file, label) in the label tables of the tar shards in ``data``.

    The optional column ``boxes`` holds JSON, [[label, left, top, right, bottom], ...], or nothing.
    Raises InputError, naming the line, if it cannot be read.
    """
    shards = [shard for place in data for shard in shards_of(place)[:1]]
    found: defaultdict[tuple[str, str], list[Box]] = defaultdict(list)
    for table in sorted({label_table(shard) for shard in shards}):
        if not table.is_file():
            continue
        for row in read_table(table, LABEL_TABLE):
            for label, box in _parse_boxes(row):
                found[plain_name(row.fields["file"]), label].append(box)
    return dict(found)


def _read_crop(row: Row) -> Crop:
    file, label, *numbers = row.take(*COLUMNS)
    try:
        left, top, right, bottom, score = map(float, numbers)
    except ValueError as error:
        raise InputError(f"{row.origin}: {', '.join(COLUMNS[2:])} must be numbers") from error
    if not (left < right and top < bottom and math.isfinite(right - left + bottom - top + score)):
        raise InputError(f"{row.origin}: not a box: left must be less than right, and top less than bottom")
    return Crop(file, label, (left, top, right, bottom), score)


def _parse_boxes(row: Row) -> list[tuple[str, Box]]:
    text = row.fields.get("boxes")
    with reading(f'{row.origin}: boxes must be JSON, as [["cat", left, top, right, bottom]]'):
        return [
            (str(label), (position(left), position(top), position(right), position(bottom)))
            for label, left, top, right, bottom in (json.loads(text) if text else ())
        ]


def _grow(box: Box, margin: float) -> Box:
    left, top, right, bottom = box
    x, y = margin * (right - left), margin * (bottom - top)
    return left - x, top - y, right + x, bottom + y
