"""labelme files, one for each image: points, polygons and rectangles.

They are measured from the upper left corner of the first pixel: half a pixel is subtracted on reading and added on
writing.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geomatch.annotations import (
    UNNAMED,
    AnnotatedImage,
    Annotations,
    Box,
    Instance,
    Keypoints,
    Region,
    categories_of,
    named_keypoints,
)
from geomatch.io.annotations.polygons import fill, trace
from geomatch.io.json_text import json_text
from geomatch.io.parsing import MAX_CORNERS, check_masks, position, reading
from geomatch.options import AnnotationFormat, AnnotationKind

HALF = 0.5
"""From a pixel's corner, where labelme has its origin, to its centre."""

_VERSION = "5.5.0"  # of labelme, whose file format this is
_SHAPE_TYPES: Mapping[AnnotationKind, tuple[str, ...]] = {
    AnnotationKind.keypoints: ("point",),
    AnnotationKind.masks: ("polygon", "mask"),
    AnnotationKind.boxes: ("rectangle",),
}


def is_labelme(document: object) -> bool:
    return isinstance(document, dict) and isinstance(document.get("shapes"), list)


def read_labelme(
    path: Path, document: Mapping[str, Any], kind: AnnotationKind, image: Path, size: tuple[int, int]
) -> Annotations:
    """The annotations of one kind in a file, which must be of ``image`` of ``size`` (height, width).

    Points of one group are one instance, and so are polygons of one group and label. Raises InputError, naming ``path``
    and the shape.
    """
    with reading(str(path)):
        named = PureWindowsPath(str(document.get("imagePath") or image.name)).name
        if named != image.name:
            raise ValueError(f"annotates {named!r}, not {image.name}")
        stated = document.get("imageHeight") or size[0], document.get("imageWidth") or size[1]
        if stated != size:
            raise ValueError(f"its image is {stated[1]!r}x{stated[0]!r}, but {image} is {size[1]}x{size[0]} pixels")
    shapes: list[_Shape] = []
    for number, shape in enumerate(document["shapes"], 1):
        with reading(f"{path}, shape {number}"):
            if shape.get("shape_type", "polygon") in _SHAPE_TYPES[kind]:
                check_masks(len(shapes) + 1 if kind is AnnotationKind.masks else 0, size)
                shapes.append(_read_shape(shape, number, size))
    with reading(str(path)):
        instances = [
            Instance(label, number, shape) for number, (label, shape) in enumerate(_assemble(kind, shapes, size), 1)
        ]
    return Annotations(instances, AnnotationFormat.labelme, categories_of(instances))


def encode_labelme(image: AnnotatedImage, folder: Path) -> bytes:
    """The file of an image, to be written into ``folder``. `group_id` is the number of the instance."""
    height, width = image.size
    document: dict[str, Any] = {
        "version": _VERSION,
        "flags": {},
        "shapes": [shape for instance in image.instances for shape in _write_instance(instance)],
        "imagePath": os.path.relpath(image.name, folder),
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    return json_text(document, indent=2).encode() + b"\n"


@dataclass(frozen=True)
class _Shape:
    """A shape of a file.

    group: the same for all shapes of an instance. grouped: whether the file gives the group; if not, it is unique.
    marked: corners (N, 2), or a mask (H, W).
    """

    label: str
    group: object
    grouped: bool
    marked: NDArray[Any]


def _read_shape(shape: Mapping[str, Any], number: int, size: tuple[int, int]) -> _Shape:
    kind, group = shape.get("shape_type", "polygon"), shape.get("group_id")
    if not isinstance(group, int | str | None):
        raise ValueError("its group_id should be a number")
    if len(shape["points"]) > MAX_CORNERS:
        raise ValueError(f"a shape has more than {MAX_CORNERS} points")
    corners = np.array([[position(x), position(y)] for x, y in shape["points"]], dtype=np.float64).reshape(-1, 2) - HALF
    fewest = {"point": 1, "rectangle": 2, "mask": 2}.get(kind, 3)
    if len(corners) < fewest or (len(corners) > fewest and kind != "polygon"):
        raise ValueError(f"a {kind} should have {fewest} points{' or more' if kind == 'polygon' else ''}")
    marked = _unpack_mask(shape["mask"], corners[0] + HALF, size) if kind == "mask" else corners
    return _Shape(str(shape["label"]), ("alone", number) if group is None else group, group is not None, marked)


def _unpack_mask(packed: str, corner: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask (H, W) that labelme stores as a PNG, in base64, of its bounding box, and the box's first pixel."""
    left, top = corner.astype(int)
    try:
        with Image.open(io.BytesIO(base64.b64decode(packed, validate=True)), formats=["PNG"]) as picture:
            if left < 0 or top < 0 or left + picture.width > size[1] or top + picture.height > size[0]:
                raise ValueError("its mask lies beyond the image")
            part = np.asarray(picture.convert("L")) > 0
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"its mask is not a PNG ({error})") from error
    mask = np.zeros(size, bool)
    mask[top : top + part.shape[0], left : left + part.shape[1]] = part
    return mask


def _assemble(
    kind: AnnotationKind, shapes: Sequence[_Shape], size: tuple[int, int]
) -> Iterator[tuple[str, Keypoints | Region | Box]]:
    """The label and the shape of each instance."""
    match kind:
        case AnnotationKind.keypoints:
            return _assemble_keypoints(shapes)
        case AnnotationKind.masks:
            return _assemble_regions(shapes, size)
        case AnnotationKind.boxes:
            return _assemble_boxes(shapes)


def _assemble_keypoints(shapes: Sequence[_Shape]) -> Iterator[tuple[str, Keypoints]]:
    """Points of one group, or without a group, are one instance."""
    groups: dict[object, list[_Shape]] = {}
    for shape in shapes:
        groups.setdefault(shape.group if shape.grouped else None, []).append(shape)
    for members in groups.values():
        points = np.concatenate([shape.marked for shape in members])
        yield UNNAMED, named_keypoints([shape.label for shape in members], points)


def _assemble_regions(shapes: Sequence[_Shape], size: tuple[int, int]) -> Iterator[tuple[str, Region]]:
    """Polygons and masks of one group and label are one instance."""
    groups: dict[object, list[_Shape]] = {}
    for shape in shapes:
        groups.setdefault((shape.label, shape.group), []).append(shape)
    for members in groups.values():
        mask = fill([shape.marked for shape in members if shape.marked.dtype != bool], size)
        for shape in members:
            if shape.marked.dtype == bool:
                mask |= shape.marked
        yield members[0].label, Region(mask)


def _assemble_boxes(shapes: Sequence[_Shape]) -> Iterator[tuple[str, Box]]:
    for shape in shapes:
        (left, top), (right, bottom) = shape.marked.min(axis=0).tolist(), shape.marked.max(axis=0).tolist()
        yield shape.label, (left, top, right, bottom)


def _write_instance(instance: Instance) -> Iterator[dict[str, Any]]:
    match instance.shape:
        case Keypoints() as keypoints:
            for k in np.flatnonzero(keypoints.present):
                confidence = None if keypoints.confidence is None else round(float(keypoints.confidence[k]), 4)
                fields = {"confidence": confidence, "visibility": int(keypoints.visibility[k])}
                yield _write_shape("point", keypoints.names[k], instance.number, keypoints.points[k : k + 1], fields)
        case Region() as region:
            for polygon in trace(region.mask):
                yield _write_shape("polygon", instance.label, instance.number, polygon, _confidence_fields(instance))
        case left, top, right, bottom:
            corners = np.array([[left, top], [right, bottom]])
            yield _write_shape("rectangle", instance.label, instance.number, corners, _confidence_fields(instance))


def _confidence_fields(instance: Instance) -> dict[str, Any]:
    return {"confidence": instance.confidence, "visibility": int(instance.visibility)}


def _write_shape(
    kind: str, label: str, group: int, corners: NDArray[np.float64], fields: Mapping[str, Any]
) -> dict[str, Any]:
    points = (corners + HALF).round(2).tolist()
    return {"label": label, "points": points, "group_id": group, "shape_type": kind, "flags": {}, **fields}
