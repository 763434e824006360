"""labelme files, one for each image: points, polygons and rectangles.

They are measured from the upper left corner of the first pixel: half a pixel is subtracted on reading and added on
writing.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
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
    Points,
    Region,
    Visibility,
    categories_of,
    named_keypoints,
)
from geomatch.errors import printable
from geomatch.io.annotations.omissions import Omissions
from geomatch.io.annotations.points import one_of_each, read_visibility
from geomatch.io.annotations.polygons import fill, trace
from geomatch.io.json_text import json_text
from geomatch.io.names import meant_names, name_parts
from geomatch.io.parsing import MAX_CORNERS, check_masks, check_stated_size, position, reading, whole_number
from geomatch.options import AnnotationFormat, AnnotationKind

HALF = 0.5
"""From a pixel's corner, where labelme has its origin, to its centre."""

VERSION = "5.5.0"
"""Of labelme, whose file format this is."""
_TURNED = ("rotation", "oriented_rectangle", "quadrilateral")
"""Other tools' and versions' names for four corners."""
_SHAPE_TYPES: Mapping[AnnotationKind, tuple[str, ...]] = {
    AnnotationKind.keypoints: ("point", "points"),
    AnnotationKind.masks: ("polygon", "mask", "circle", *_TURNED),
    AnnotationKind.boxes: ("rectangle",),
}
_FEWEST_POINTS: Mapping[str, int] = {"point": 1, "points": 1, "rectangle": 2, "mask": 2, "circle": 2}  # others: 3
_CIRCLE_CORNERS = 72


def is_labelme(document: object) -> bool:
    return isinstance(document, dict) and isinstance(document.get("shapes"), list)


def read_labelme(
    document: Mapping[str, Any], kind: AnnotationKind, image: Path, size: tuple[int, int], omissions: Omissions
) -> Annotations:
    """The annotations of one kind in a document, which must be of ``image`` of ``size`` (height, width).

    Points of one group are one instance, and so are polygons of one group and label. The second point of a label in a
    group begins another instance. A circle and a turned rectangle are polygons, and so are
    upright rectangles where no shape is finer. ``omissions`` takes the shapes that
    cannot be used, or are of other kinds. Raises InputError, naming the file.
    """
    with reading(omissions.origin):
        named = str(document.get("imagePath") or image.name)
        if not meant_names([named], image):
            raise ValueError(f"annotates {name_parts(named)[-1]!r}, not {image.name}")
        check_stated_size(omissions.origin, document.get("imageHeight"), document.get("imageWidth"), image, size)
    types, shapes = _types_of(kind, document["shapes"]), list[_Shape]()
    for number, shape in enumerate(document["shapes"], 1):
        with omissions.tolerated(f"shape {number}"):
            shape_type = _type_of(shape)
            if shape_type in types:
                check_masks(len(shapes) + 1 if kind is AnnotationKind.masks else 0, size)
                shapes.append(_read_shape(shape, shape_type, number, size))
            else:
                omissions.others[printable(str(shape_type))] += 1
    instances = [
        Instance(label, number, shape) for number, (label, shape) in enumerate(_assemble(kind, shapes, size), 1)
    ]
    return Annotations(instances, AnnotationFormat.labelme, categories_of(instances))


def _type_of(shape: Mapping[str, Any]) -> str:
    stated = shape.get("shape_type") or ("point" if len(shape["points"]) == 1 else "polygon")
    return str(stated).lower()


def _types_of(kind: AnnotationKind, shapes: Sequence[Any]) -> tuple[str, ...]:
    """The types of shapes that are of a kind. Beside finer masks a rectangle is their box; without any it is a mask."""
    types = _SHAPE_TYPES[kind]
    if kind is not AnnotationKind.masks:
        return types
    with suppress(TypeError, KeyError, AttributeError):
        if any(_type_of(shape) in types for shape in shapes):
            return types
    return (*types, "rectangle")


def encode_labelme(image: AnnotatedImage, folder: Path) -> bytes:
    """The file of an image, to be written into ``folder``. `group_id` is the number of the instance."""
    height, width = image.size
    document: dict[str, Any] = {
        "version": VERSION,
        "flags": {},
        "shapes": [shape for instance in image.instances for shape in _write_instance(instance)],
        "imagePath": path_from(folder, Path(image.name)),
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    return json_text(document, indent=2).encode() + b"\n"


def path_from(folder: Path, image: Path) -> str:
    """The path of an image from where a folder really is: links are followed, since ".." leaves by the real folder."""
    return os.path.relpath(image.parent.resolve() / image.name, folder.resolve())


@dataclass(frozen=True)
class _Shape:
    """A shape of a file.

    label: of a point its name. group: the same for all shapes of an instance. grouped: whether the file gives the
    group; if not, it is unique. marked: corners (N, 2), or a mask (H, W). visibility: of points. owner: the label of
    the instance that a point is of, which labelme itself does not have.
    """

    label: str
    group: object
    grouped: bool
    marked: NDArray[Any]
    visibility: Visibility = Visibility.seen
    owner: str = UNNAMED


def _read_shape(shape: Mapping[str, Any], shape_type: str, number: int, size: tuple[int, int]) -> _Shape:
    if len(shape["points"]) > MAX_CORNERS:
        raise ValueError(f"a shape has more than {MAX_CORNERS} points")
    written = shape["points"]
    if written and not any(isinstance(each, list | tuple | dict) for each in written):
        written = list(zip(written[::2], written[1::2], strict=True))
    points = [[position(x), position(y)] for x, y, *_ in written]
    fewest = _FEWEST_POINTS.get(shape_type, 3)
    if len(points) < fewest or (len(points) > fewest and shape_type in ("point", "circle", "mask")):
        more = "" if shape_type in ("point", "circle", "mask") else " or more"
        raise ValueError(f"a {shape_type} should have {fewest} points{more}, not {len(points)}")
    marked: NDArray[Any] = np.array(points, dtype=np.float64) - HALF
    if shape_type == "mask":
        marked = _unpack_mask(shape["mask"], marked[0] + HALF, size)
    elif shape_type == "circle":
        marked = _circle(*marked)
    elif shape_type == "rectangle" and len(marked) == 2:
        (left, top), (right, bottom) = marked
        marked = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    group, label = _group(shape.get("group_id")), shape["label"]
    grouped = group is not None
    visibility, owner = read_visibility(shape.get("visibility", Visibility.seen)), str(shape.get("object") or UNNAMED)
    label = UNNAMED if label is None else str(label)
    return _Shape(label, group if grouped else ("alone", number), grouped, marked, visibility, owner)


def _group(value: object) -> int | str | None:
    """A group in one spelling: tools write the number 1 as 1, 1.0 or "1". Raises ValueError."""
    if value in (None, ""):
        return None
    try:
        return whole_number(value)
    except ValueError:
        if not isinstance(value, str):
            raise ValueError("its group_id should be a number") from None
        return value


def _circle(centre: Points, rim: Points) -> Points:
    """Corners (N, 2) of a polygon round a centre (2,), through a point on the rim (2,)."""
    across, down = rim - centre
    turn = np.linspace(0, 2 * np.pi, _CIRCLE_CORNERS, endpoint=False)
    cosine, sine = np.cos(turn), np.sin(turn)
    corners: Points = centre + np.stack((across * cosine - down * sine, across * sine + down * cosine), axis=1)
    return corners


def _unpack_mask(packed: str, corner: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask (H, W) that labelme stores as a PNG, in base64, of its bounding box, and the box's first pixel."""
    left, top = corner.astype(int)
    try:
        text = packed.removeprefix("data:image/png;base64,")
        content = base64.b64decode("".join(text.split()), validate=True)  # some tools fold it into lines
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            part = np.asarray(picture.convert("L")) > 0
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"its mask is not a PNG ({error})") from error
    part = part[max(0, -top) :, max(0, -left) :]  # what lies beyond the image is cut
    top, left = max(0, top), max(0, left)
    mask = np.zeros(size, bool)
    here = mask[top : top + part.shape[0], left : left + part.shape[1]]
    here[:] = part[: here.shape[0], : here.shape[1]]
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
        each = [shape for shape in members for _ in shape.marked]
        for part in one_of_each([shape.label for shape in each]):
            names, seen = zip(*((each[place].label, each[place].visibility) for place in part), strict=True)
            yield members[0].owner, named_keypoints(names, points[part], seen)


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
