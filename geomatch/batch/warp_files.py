"""A saved flow applied to files: images, label maps and masks, and tables of points."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from geomatch.correspondence import Correspondence
from geomatch.errors import InputError
from geomatch.io.annotations.csv_table import POINT_LAYOUT
from geomatch.io.flow import FlowField
from geomatch.io.formats.png import encode_png
from geomatch.io.images import load_image, open_picture
from geomatch.io.inputs import read_input
from geomatch.io.json_text import json_text
from geomatch.io.tables import Layout, Row, read_table
from geomatch.options import PointsOf, Warped
from geomatch.result import FEATHERING

POINT_SUFFIXES = frozenset({".csv", ".tsv", ".txt", ".jsonl"})
_COLUMNS = ("x", "y")
_LABEL_MODES = frozenset({"1", "L", "P", "I;16", "I"})

Size = tuple[int, int]


def is_table(path: Path) -> bool:
    """Whether a file of this name is read as a table of points."""
    return path.suffix.lower() in POINT_SUFFIXES


def warp_file(field: FlowField, path: Path, kind: Warped) -> bytes:
    """An image or a label map of the target in the frame of the source, as the content of a PNG file.

    An image is read bilinearly, and gets a feathered opacity; labels are read at the nearest pixel, keep their numbers
    and colours, and are 0 where the flow is not valid.

    Raises InputError if the file cannot be read, holds no labels, or none of the flow lies in it.
    """
    if kind is Warped.image:
        image = load_image(path)
        found = _correspondence(field, (image.shape[1], image.shape[2]), path)
        return encode_png(found.warp(image, FEATHERING).permute(1, 2, 0).contiguous().numpy())
    with open_picture(io.BytesIO(read_input(path).content), str(path)) as picture:
        if picture.mode not in _LABEL_MODES:
            raise InputError(f"{path}: labels are grey or have a palette; this is {picture.mode}: see --as image")
        labels, mode, palette = np.array(picture), picture.mode, picture.getpalette()
    found = _correspondence(field, (labels.shape[0], labels.shape[1]), path)
    warped = found.warp_labels(labels) * found.valid.numpy()
    drawn = Image.fromarray(warped.astype(labels.dtype))
    if mode == "P" and palette:
        drawn.putpalette(palette)
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG")
    return buffer.getvalue()


def map_table(field: FlowField, path: Path, points_of: PointsOf) -> bytes:
    """A table of points, x and y, and where they lie in the other image: JSON lines with to_x, to_y, confidence and
    valid besides the table's own columns.

    points_of: the source's points follow the flow, the target's the flow turned round. Raises InputError.
    """
    rows = list(read_table(path, Layout(_COLUMNS, bare=POINT_LAYOUT.bare)))
    if not rows:
        raise InputError(f"{path}: holds no points")
    places = np.array([[row.position(axis) for axis in _COLUMNS] for row in rows])
    width, height = np.maximum(np.ceil(places.max(axis=0)).astype(int) + 1, 1)
    if points_of is PointsOf.source:
        mapped = _as_correspondence(field, field.size).map_points(places)
    else:
        mapped = _as_correspondence(field, (int(height), int(width))).inverse().map_points(places)
    results = mapped.positions.round(2), mapped.confidence.round(4), mapped.valid
    return b"".join(
        (json_text(_record(row, place, to, confidence, valid)) + "\n").encode(errors="surrogateescape")
        for row, place, to, confidence, valid in zip(
            rows, places.tolist(), *map(np.ndarray.tolist, results), strict=True
        )
    )


def _record(row: Row, place: Sequence[float], to: Sequence[float], confidence: float, valid: bool) -> dict[str, object]:
    others: dict[str, object] = {name: text for name, text in row.fields.items() if name not in _COLUMNS}
    here, there = dict(zip(_COLUMNS, place, strict=True)), dict(zip(("to_x", "to_y"), to, strict=True))
    return others | here | there | {"confidence": confidence, "valid": valid}


def _correspondence(field: FlowField, target_size: Size, path: Path) -> Correspondence:
    """The flow as a correspondence to an image of this size, valid inside it only. Raises InputError if nowhere."""
    found = _as_correspondence(field, target_size)
    height, width = target_size
    row, column = np.indices(field.size, sparse=True)
    inside: NDArray[np.bool_] = (
        (field.flow[0] + column >= -0.5)
        & (field.flow[0] + column <= width - 0.5)
        & (field.flow[1] + row >= -0.5)
        & (field.flow[1] + row <= height - 0.5)
    )
    if not (inside & field.valid).any():
        raise InputError(
            f"{path}: the flow leads to no pixel of these {width}x{height}; give its target, or one like it"
        )
    found.valid[:] = torch.from_numpy(inside & field.valid)
    return found


def _as_correspondence(field: FlowField, target_size: Size) -> Correspondence:
    stated = field.confidence if field.confidence is not None else field.valid.astype(np.float32)
    flow, confidence, valid = (torch.from_numpy(np.array(each)) for each in (field.flow, stated, field.valid))
    return Correspondence(flow, confidence, valid, field.size, target_size)
