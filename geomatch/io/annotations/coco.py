"""COCO documents: keypoints, masks (polygons or runs) and boxes of instances on many images, in one JSON file.

In COCO keypoints are pixels, counted from 0, but polygons and boxes are measured from the upper left *corner* of the
first pixel: half a pixel is subtracted on reading and added on writing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geomatch import __version__
from geomatch.annotations import (
    AnnotatedImage,
    Annotations,
    Box,
    Category,
    Instance,
    Keypoints,
    Points,
    Region,
    Visibility,
)
from geomatch.errors import InputError
from geomatch.io.annotations.polygons import fill, trace
from geomatch.io.annotations.rle import decode_runs, encode_runs, pack_runs, unpack_runs
from geomatch.io.json_text import json_text
from geomatch.io.parsing import MAX_CORNERS, check_masks, position, reading, whole_number
from geomatch.options import AnnotationFormat, AnnotationKind, MaskEncoding

HALF = 0.5
"""From a pixel's corner, where COCO has its origin, to its centre."""

FIELDS: Mapping[AnnotationKind, str] = {
    AnnotationKind.keypoints: "keypoints",
    AnnotationKind.masks: "segmentation",
    AnnotationKind.boxes: "bbox",
}


def is_coco(document: object) -> bool:
    return isinstance(document, dict) and isinstance(document.get("images"), list) and "annotations" in document


def read_coco(
    path: Path, document: Mapping[str, Any], kind: AnnotationKind, image: Path, size: tuple[int, int]
) -> Annotations:
    """The annotations of one of a document's images.

    Args:
        path: the document's file, for messages.
        document: its content.
        kind: what is read of each annotation.
        image: the document's image is the one of this name.
        size: the image's (height, width).

    Raises InputError, naming ``path`` and the annotation, if the document lacks the image or is not valid COCO.
    """
    entry = _entry_of(path, document["images"], image)
    with reading(f"{path}, image {entry['id']!r}"):
        stated = entry.get("height", size[0]), entry.get("width", size[1])
        if stated != size:
            raise ValueError(f"is {stated[1]!r}x{stated[0]!r} pixels there, but {image} is {size[1]}x{size[0]} pixels")
    with reading(f"{path}, categories"):
        categories = {each.id: each for each in map(_read_category, document["categories"])}
        if len({each.name for each in categories.values()}) < len(document["categories"]):
            raise ValueError("two of them have the same id or name")
    instances: list[Instance] = []
    with reading(f"{path}, annotations"):
        marks = [each for each in document["annotations"] if each["image_id"] == entry["id"] and each.get(FIELDS[kind])]
        if kind is AnnotationKind.masks:
            check_masks(len(marks), size)
    for annotation in marks:
        with reading(f"{path}, annotation {annotation.get('id')}"):
            category = categories.get(annotation["category_id"])
            if category is None:
                raise ValueError(f"its category {annotation['category_id']!r} is not among the document's")
            instances.append(Instance(category.name, len(instances) + 1, _read_shape(kind, annotation, category, size)))
    return Annotations(instances, AnnotationFormat.coco, list(categories.values()))


class CocoDocument:
    """A document of annotations that are transferred to images; it takes them in any order and lists them by number."""

    def __init__(self, reference: Annotations) -> None:
        self._categories = {category.name: category for category in reference.categories}
        self._images: dict[int, dict[str, Any]] = {}
        self._annotations: dict[int, list[dict[str, Any]]] = {}

    def add(self, number: int, image: AnnotatedImage) -> None:
        height, width = image.size
        self._annotations[number] = [
            {
                "category_id": self._categories[instance.label].id,
                "iscrowd": 0,
                "score": instance.confidence,
                "visibility": int(instance.visibility),
                **self._fields(instance),
            }
            for instance in image.instances
        ]
        self._images[number] = {"file_name": image.name, "width": width, "height": height}

    def content(self) -> bytes:
        numbers = sorted(self._images)
        annotations = [(place, each) for place, number in enumerate(numbers, 1) for each in self._annotations[number]]
        document = {
            "info": {"description": f"transferred by geomatch {__version__}"},
            "images": [{"id": place, **self._images[number]} for place, number in enumerate(numbers, 1)],
            "annotations": [{"id": own, "image_id": place, **each} for own, (place, each) in enumerate(annotations, 1)],
            "categories": [_write_category(category) for category in self._categories.values()],
        }
        return json_text(document).encode() + b"\n"

    def _fields(self, instance: Instance) -> dict[str, Any]:
        match instance.shape:
            case Keypoints() as keypoints:
                return _keypoint_fields(keypoints, self._categories[instance.label].keypoints)
            case Region() as region:
                area = int(region.mask.sum())
                return {"segmentation": segmentation(region), "area": area, **_box_fields(region.box)}
            case box:
                return {"area": round((box[2] - box[0]) * (box[3] - box[1]), 2), **_box_fields(box)}


def segmentation(region: Region) -> object:
    """A mask as COCO writes it: polygons as lists x, y, x, y ..., or runs, as a list or packed into a text."""
    if region.encoding is MaskEncoding.polygons:
        return [[round(float(axis), 2) for axis in (polygon + HALF).ravel()] for polygon in trace(region.mask)]
    runs = encode_runs(region.mask)
    packed = region.encoding is MaskEncoding.packed_runs
    return {"size": list(region.mask.shape), "counts": pack_runs(runs) if packed else runs}


def _entry_of(path: Path, entries: Sequence[Any], image: Path) -> Mapping[str, Any]:
    """The entry of an image: of those with its name, the one whose folders also agree."""
    with reading(f"{path}, images"):
        named = [(Path(str(entry["file_name"])), entry) for entry in entries if entry["id"] is not None]
    named = [(file, entry) for file, entry in named if file.name == image.name]
    whole = image.absolute().parts
    closest = [entry for file, entry in named if whole[-len(file.parts) :] == file.parts] or [e for _, e in named]
    if len(closest) != 1:
        many = "several images" if closest else "no image"
        raise InputError(f"{path}: has {many} named {image.name}; it should have one")
    return closest[0]  # type: ignore[no-any-return]


def _read_category(entry: Mapping[str, Any]) -> Category:
    names = tuple(str(name) for name in entry.get("keypoints") or ())
    skeleton = tuple((whole_number(start), whole_number(end)) for start, end in entry.get("skeleton") or ())
    if len(set(names)) < len(names):
        raise ValueError(f"category {entry['name']!r} has two keypoints of the same name")
    if not all(1 <= end <= len(names) for line in skeleton for end in line):
        raise ValueError(f"the skeleton of category {entry['name']!r} joins keypoints that it lacks")
    return Category(whole_number(entry["id"]), str(entry["name"]), names, skeleton)


def _write_category(category: Category) -> dict[str, Any]:
    fields = {"id": category.id, "name": category.name}
    if category.keypoints:
        fields |= {"keypoints": category.keypoints, "skeleton": category.skeleton}
    return fields


def _read_shape(
    kind: AnnotationKind, annotation: Mapping[str, Any], category: Category, size: tuple[int, int]
) -> Keypoints | Region | Box:
    match kind:
        case AnnotationKind.keypoints:
            return _read_keypoints(annotation, category)
        case AnnotationKind.masks:
            return _read_region(annotation["segmentation"], size)
        case AnnotationKind.boxes:
            left, top, width, height = (position(value) for value in annotation["bbox"])
            return left - HALF, top - HALF, left + width - HALF, top + height - HALF


def _read_keypoints(annotation: Mapping[str, Any], category: Category) -> Keypoints:
    values = annotation["keypoints"]
    if len(values) % 3:
        raise ValueError("its keypoints are not triples x, y, visibility")
    names = category.keypoints or tuple(str(number) for number in range(1, len(values) // 3 + 1))
    if len(values) != 3 * len(names):
        raise ValueError(f"it has {len(values) // 3} keypoints, its category {category.name!r} has {len(names)}")
    points = np.array([position(value) for value in values], dtype=np.float64).reshape(-1, 3)
    if not np.isin(points[:, 2], list(Visibility)).all():
        raise ValueError("a keypoint's visibility should be 0, 1 or 2")
    return Keypoints(names, points[:, :2].copy(), points[:, 2].astype(np.int64))


def _read_region(written: Any, size: tuple[int, int]) -> Region:
    if isinstance(written, dict):
        if written["size"] != list(size):
            raise ValueError(f"its mask is of size {written['size']}, the image has height and width {list(size)}")
        counts = written["counts"]
        packed = isinstance(counts, str)
        mask = decode_runs(unpack_runs(counts) if packed else counts, size)
        return Region(mask, MaskEncoding.packed_runs if packed else MaskEncoding.runs)
    polygons = [_read_corners(polygon) for polygon in written]
    return Region(fill([polygon - HALF for polygon in polygons], size))


def _read_corners(values: Sequence[object]) -> Points:
    """The corners (N, 2) of a polygon given as x, y, x, y ... Raises ValueError."""
    if isinstance(values, str) or len(values) % 2 or len(values) < 6:
        raise ValueError("a polygon should be a list x, y, x, y ... of three corners or more")
    if len(values) > 2 * MAX_CORNERS:
        raise ValueError(f"a polygon has more than {MAX_CORNERS} corners")
    return np.array([position(value) for value in values], dtype=np.float64).reshape(-1, 2)


def _keypoint_fields(keypoints: Keypoints, names: Sequence[str]) -> dict[str, Any]:
    """Triples in the category's order, 0, 0, 0 for absent points. Area and box are the points' extent, as pycocotools
    has them for results."""
    found = {name: (position, visibility, score) for name, position, visibility, score in keypoints.rounded()}
    triples: list[float] = []
    scores: list[float] = []
    for name in names:
        position, visibility, score = found.get(name, ([0, 0], 0, None))
        triples += [*position, visibility]
        scores.append(0 if score is None else score)
    present = keypoints.points[keypoints.present]
    (left, top), (right, bottom) = present.min(axis=0).tolist(), present.max(axis=0).tolist()
    area = round((right - left) * (bottom - top), 2)
    fields = {"keypoints": triples, "num_keypoints": len(found), "keypoint_scores": scores, "area": area}
    return fields | _box_fields((left, top, right, bottom))


def _box_fields(box: Box) -> dict[str, Any]:
    left, top, right, bottom = box
    return {"bbox": [round(each, 2) for each in (left + HALF, top + HALF, right - left, bottom - top)]}
