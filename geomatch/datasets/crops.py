"""Where on labelled photographs the labelled things are: tables of found crops, and true boxes to check them with.

A box is (left, top, right, bottom) in pixels of the upright photograph, pixel centres at integers: the whole of a
photograph of W x H pixels is (-0.5, -0.5, W - 0.5, H - 0.5).
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from geomatch.datasets.image_folder import Photograph, label_table
from geomatch.datasets.pairs import Box
from geomatch.errors import InputError
from geomatch.io.atomic import write_atomically
from geomatch.io.parsing import position
from geomatch.io.tables import Row, read_table

COLUMNS = ("file", "label", "left", "top", "right", "bottom", "score")
CROP_MARGIN = 0.15


@dataclass(frozen=True)
class Crop:
    """Where a label was found on a photograph. score: how surely, in [0, 1]."""

    file: str
    label: str
    box: Box
    score: float


def write_crops(path: Path, crops: Iterable[Crop]) -> None:
    """Write a table with the columns ``COLUMNS``, a row a crop, whole or not at all. Raises InputError."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for crop in crops:
        rows.writerow((crop.file, crop.label, *(f"{edge:.1f}" for edge in crop.box), f"{crop.score:.4f}"))
    write_atomically(path, text.getvalue().encode())


def read_crops(path: Path) -> list[Crop]:
    """Read a table that `write_crops` wrote, or one like it. Raises InputError, naming the line."""
    return [_read_crop(row) for row in read_table(path, COLUMNS)]


def with_crops(
    photographs: Sequence[Photograph], crops: Iterable[Crop], *, margin: float = CROP_MARGIN
) -> list[Photograph]:
    """The same photographs, cut to their crops where there are any.

    Each crop of a photograph becomes a photograph of its own, with the crop's label alone, grown on all sides by the
    share ``margin`` of its width or height. What has no crop keeps the whole photograph.

    Raises InputError if crops belong to none of the photographs.
    """
    of_file: defaultdict[str, list[Crop]] = defaultdict(list)
    for crop in crops:
        of_file[crop.file].append(crop)
    if not any(photograph.name in of_file for photograph in photographs):
        raise InputError("the crop table knows none of the photographs: was it made from others?")
    shown: list[Photograph] = []
    for photograph in photographs:
        mine = [crop for crop in of_file[photograph.name] if crop.label in photograph.labels]
        shown += [replace(photograph, labels=(crop.label,), crop=_grown(crop.box, margin)) for crop in mine]
        left = tuple(label for label in photograph.labels if label not in {crop.label for crop in mine})
        if left or not mine:
            shown.append(replace(photograph, labels=left))
    return shown


def read_true_boxes(data: Sequence[Path]) -> dict[tuple[str, str], list[Box]]:
    """The true boxes of each (file, label) in the label tables of the tar shards in ``data``.

    They are in the column ``boxes``, if there is one: JSON, [[label, left, top, right, bottom], ...], or nothing.
    Raises InputError, naming the line, if they cannot be read.
    """
    shards = [shard for place in data for shard in ([place] if place.is_file() else sorted(place.glob("*.tar"))[:1])]
    found: defaultdict[tuple[str, str], list[Box]] = defaultdict(list)
    for table in sorted({label_table(shard) for shard in shards}):
        if not table.is_file():
            continue
        for row in read_table(table, ("file",)):
            for label, box in _parse_boxes(row):
                found[row.fields["file"], label].append(box)
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
    try:
        return [
            (str(label), (position(left), position(top), position(right), position(bottom)))
            for label, left, top, right, bottom in (json.loads(text) if text else ())
        ]
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f'{row.origin}: boxes must be JSON, as [["cat", left, top, right, bottom]]') from error


def _grown(box: Box, margin: float) -> Box:
    left, top, right, bottom = box
    x, y = margin * (right - left), margin * (bottom - top)
    return left - x, top - y, right + x, bottom + y
