"""labelme's files, one an image: points, polygons and rectangles, measured from the upper left corner of the first
pixel, so that half a pixel is taken off on reading and added on writing."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geomatch.annotations import (
    AnnotatedImage,
    Annotations,
    Box,
    Keypoints,
    Region,
    Thing,
    categories_of,
    named_keypoints,
)
from geomatch.io.annotations.polygons import fill, trace
from geomatch.io.parsing import MAX_CORNERS, check_masks, json_text, position, reading
from geomatch.options import AnnotationFormat, AnnotationKind

HALF = 0.5
"""From labelme's corner of a pixel to our centre."""
UNNAMED = "object"
"""Label of the thing that points are of, which labelme's files do not say."""

_VERSION = "5.5.0"  # of labelme, whose files these are like
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
    """What a file says of its image, which must be ``image`` of ``size`` (height, width); other shapes are passed over.

    Points of one group are one thing, and so are outlines of one group and label. Raises InputError, naming ``path``
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
        things = [
            Thing(label, number, shape) for number, (label, shape) in enumerate(_ASSEMBLERS[kind](shapes, size), 1)
        ]
    return Annotations(things, AnnotationFormat.labelme, categories_of(things))


def encode_labelme(image: AnnotatedImage, folder: Path) -> bytes:
    """The file of an image, to lie in ``folder``. What stands in `group_id` is the thing's number."""
    height, width = image.size
    document: dict[str, Any] = {
        "version": _VERSION,
        "flags": {},
        "shapes": [shape for thing in image.things for shape in _write_thing(thing)],
        "imagePath": os.path.relpath(image.name, folder),
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    return json_text(document, indent=2).encode() + b"\n"


@dataclass(frozen=True)
class _Shape:
    """group: that of shapes of one thing, which is unlike all others for a shape alone. marked: corners (N, 2), or a
    mask (H, W)."""

    label: str
    group: object
    grouped: bool
    marked: NDArray[Any]


def _read_shape(shape: Mapping[str, Any], number: int, size: tuple[int, int]) -> _Shape:
    kind, group = shape.get("shape_type", "polygon"), shape.get("group_id")
    if not isinstance(group, int | str | None):
        raise ValueError("its group_id should be a number")
    if len(shape["points"]) > MAX_CORNERS:
        raise ValueError(f"a shape of more than {MAX_CORNERS} points")
    corners = np.array([[position(x), position(y)] for x, y in shape["points"]], dtype=np.float64).reshape(-1, 2) - HALF
    least = {"point": 1, "rectangle": 2, "mask": 2}.get(kind, 3)
    if len(corners) < least or (len(corners) > least and kind != "polygon"):
        raise ValueError(f"a {kind} should have {least} points{' or more' if kind == 'polygon' else ''}")
    marked = _unpack_mask(shape["mask"], corners[0] + HALF, size) if kind == "mask" else corners
    return _Shape(str(shape["label"]), ("alone", number) if group is None else group, group is not None, marked)


def _unpack_mask(packed: str, corner: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask (H, W) that labelme stores as the PNG, in base64, of the part from a pixel on."""
    left, top = corner.astype(int)
    try:
        with Image.open(io.BytesIO(base64.b64decode(packed, validate=True)), formats=["PNG"]) as picture:
            if left < 0 or top < 0 or left + picture.width > size[1] or top + picture.height > size[0]:
                raise ValueError("its mask lies beyond the image")
            part = np.asarray(picture.convert("L")) > 0
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"its mask is no PNG ({error})") from error
    mask = np.zeros(size, bool)
    mask[top : top + part.shape[0], left : left + part.shape[1]] = part
    return mask


def _assemble_keypoints(shapes: Sequence[_Shape], size: tuple[int, int]) -> Iterator[tuple[str, Keypoints]]:  # noqa: ARG001
    """Points of one group, or of none, are one thing."""
    groups: dict[object, list[_Shape]] = {}
    for shape in shapes:
        groups.setdefault(shape.group if shape.grouped else None, []).append(shape)
    for members in groups.values():
        points = np.concatenate([shape.marked for shape in members])
        yield UNNAMED, named_keypoints([shape.label for shape in members], points)


def _assemble_regions(shapes: Sequence[_Shape], size: tuple[int, int]) -> Iterator[tuple[str, Region]]:
    """Outlines and masks of one group and label are one thing."""
    groups: dict[object, list[_Shape]] = {}
    for shape in shapes:
        groups.setdefault((shape.label, shape.group), []).append(shape)
    for members in groups.values():
        mask = fill([shape.marked for shape in members if shape.marked.dtype != bool], size)
        for shape in members:
            if shape.marked.dtype == bool:
                mask |= shape.marked
        yield members[0].label, Region(mask)


def _assemble_boxes(shapes: Sequence[_Shape], size: tuple[int, int]) -> Iterator[tuple[str, Box]]:  # noqa: ARG001
    for shape in shapes:
        (left, top), (right, bottom) = shape.marked.min(axis=0).tolist(), shape.marked.max(axis=0).tolist()
        yield shape.label, (left, top, right, bottom)


_Assembler = Callable[[Sequence[_Shape], tuple[int, int]], Iterator[tuple[str, Keypoints | Region | Box]]]
_ASSEMBLERS: Mapping[AnnotationKind, _Assembler] = {
    AnnotationKind.keypoints: _assemble_keypoints,
    AnnotationKind.masks: _assemble_regions,
    AnnotationKind.boxes: _assemble_boxes,
}


def _write_thing(thing: Thing) -> Iterator[dict[str, Any]]:
    match thing.shape:
        case Keypoints() as keypoints:
            for k in np.flatnonzero(keypoints.present):
                confidence = None if keypoints.confidence is None else round(float(keypoints.confidence[k]), 4)
                sure = {"confidence": confidence, "visibility": int(keypoints.visibility[k])}
                yield _write_shape("point", keypoints.names[k], thing.number, keypoints.points[k : k + 1], sure)
        case Region() as region:
            for polygon in trace(region.mask):
                yield _write_shape("polygon", thing.label, thing.number, polygon, _surety(thing))
        case left, top, right, bottom:
            corners = np.array([[left, top], [right, bottom]])
            yield _write_shape("rectangle", thing.label, thing.number, corners, _surety(thing))


def _surety(thing: Thing) -> dict[str, Any]:
    return {"confidence": thing.confidence, "visibility": int(thing.visibility)}


def _write_shape(
    kind: str, label: str, group: int, corners: NDArray[np.float64], surety: Mapping[str, Any]
) -> dict[str, Any]:
    points = (corners + HALF).round(2).tolist()
    return {"label": label, "points": points, "group_id": group, "shape_type": kind, "flags": {}, **surety}
