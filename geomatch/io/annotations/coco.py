"""COCO documents: keypoints, masks (polygons or runs) and boxes of instances on many images, in one JSON file.

In COCO keypoints are pixels, counted from 0, but polygons and boxes are measured from the upper left *corner* of the
first pixel: half a pixel is subtracted on reading and added on writing.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
    distinct_names,
)
from geomatch.errors import InputError
from geomatch.io.annotations.omissions import Omissions
from geomatch.io.annotations.points import read_points
from geomatch.io.annotations.polygons import fill, trace
from geomatch.io.annotations.rle import decode_runs, encode_runs, pack_runs, unpack_runs
from geomatch.io.json_text import json_text
from geomatch.io.names import has_no_name, meant_names, name_parts
from geomatch.io.parsing import MAX_CORNERS, check_masks, check_stated_size, position, reading, whole_number
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
    document: Mapping[str, Any], kind: AnnotationKind, image: Path, size: tuple[int, int], omissions: Omissions
) -> Annotations:
    """The annotations of one of a document's images.

    Args:
        document: the content of a file.
        kind: what is read of each annotation.
        image: the document's image is the one of this name.
        size: the image's (height, width).
        omissions: takes the annotations that cannot be used, or are of other kinds. Other images are not looked at, and
            neither are categories that no annotation of this image has.

    Raises InputError, naming the file, if the document lacks the image or states another size for it.
    """
    path = omissions.origin
    entry = _entry_of(path, document["images"], image)
    with reading(f"{path}, image {entry.get('id')!r}"):
        check_stated_size(entry.get("height"), entry.get("width"), image, size)
    annotations = _entries(document, "annotations", omissions)
    own = [each for each in annotations if _id(each.get("image_id")) == _id(entry.get("id"))]
    marks = [each for each in own if each.get(FIELDS[kind])]
    if others := len(own) - len(marks):
        omissions.others[f"without {FIELDS[kind]}"] += others
    with reading(f"{path}, annotations"):
        check_masks(len(marks) if kind is AnnotationKind.masks else 0, size)
    used = {_id(each.get("category_id")) for each in marks}
    categories = _read_categories(_entries(document, "categories", omissions), used, omissions)
    instances: list[Instance] = []
    for number, annotation in enumerate(marks, 1):
        item = f"annotation {annotation.get('id', number)}"
        with omissions.tolerated(item):
            category = categories.get(_id(annotation["category_id"]))
            if category is None:
                raise ValueError(f"its category {annotation['category_id']!r} is not among the document's")
            shape = _read_shape(kind, annotation, category, size, partial(omissions.fault, item))
            instances.append(Instance(category.name, len(instances) + 1, shape))
    unique = {category.name: category for category in categories.values()}
    return Annotations(instances, AnnotationFormat.coco, list(unique.values()))


@dataclass(frozen=True)
class CocoObject:
    """An object with keypoints on one of a document's images; box: as written, or else the keypoints' extent."""

    file_name: str
    category: str
    keypoints: Keypoints
    box: Box


def read_coco_objects(document: Mapping[str, Any], omissions: Omissions) -> list[CocoObject]:
    """The objects with keypoints on all of a document's images, in the order of the document.

    omissions: takes the annotations that cannot be used, or have no keypoints.
    """
    images = {_id(each.get("id")): each.get("file_name") for each in _entries(document, "images", omissions)}
    annotations = _entries(document, "annotations", omissions)
    marks = [each for each in annotations if each.get("keypoints")]
    if others := len(annotations) - len(marks):
        omissions.others["without keypoints"] += others
    used = {_id(each.get("category_id")) for each in marks}
    categories = _read_categories(_entries(document, "categories", omissions), used, omissions)
    found = []
    for number, annotation in enumerate(marks, 1):
        item = f"annotation {annotation.get('id', number)}"
        with omissions.tolerated(item):
            file_name, category = images[_id(annotation["image_id"])], categories[_id(annotation["category_id"])]
            if not isinstance(file_name, str):
                raise ValueError("its image has no file_name")
            keypoints = _read_keypoints(annotation["keypoints"], category, partial(omissions.fault, item))
            if not keypoints.present.any():
                omissions.others["without keypoints"] += 1
                continue
            box = _read_box(annotation["bbox"]) if annotation.get("bbox") else keypoints.extent
            found.append(CocoObject(file_name, category.name, keypoints, box))
    return found


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


def _entries(document: Mapping[str, Any], key: str, omissions: Omissions) -> list[Mapping[str, Any]]:
    """The objects of a list in a document, none if it is null or missing. Raises InputError if it is no list."""
    entries = document.get(key) or []
    if not isinstance(entries, list):
        raise InputError(f"{omissions.origin}: its '{key}' should be a list")
    objects: list[Mapping[str, Any]] = [entry for entry in entries if isinstance(entry, dict)]
    if strange := len(entries) - len(objects):
        omissions.others[f"in '{key}' that is no object"] += strange
    return objects


def _entry_of(path: str, entries: Sequence[Any], image: Path) -> Mapping[str, Any]:
    """The entry of an image, see `meant_names`; of one that has no name, the only entry."""
    named = [each for each in entries if isinstance(each, dict) and isinstance(each.get("file_name"), str)]
    if has_no_name(image) and len(named) > 1:
        raise InputError(f"{path}: has {len(named)} images, and the reference, {image}, no name that tells which it is")
    meant = meant_names({each["file_name"] for each in named}, image)
    longest = max((len(name_parts(name)) for name in meant), default=0)
    closest = [each for each in named if each["file_name"] in meant and len(name_parts(each["file_name"])) == longest]
    if len(closest) != 1:
        many = "several images" if closest else "no image"
        raise InputError(f"{path}: has {many} named {image.name} among its images; it should have one")
    return closest[0]


def _id(value: object) -> int | str:
    """An identifier in one spelling: tools write the number 3 as 3, 3.0 or "3"."""
    try:
        return whole_number(value)
    except ValueError:
        return str(value)


def _read_categories(
    entries: Sequence[Mapping[str, Any]], used: Container[int | str], omissions: Omissions
) -> dict[int | str, Category]:
    """The categories that can be read, by identifier. Of those of one name, the first that is used stands for all.

    A fault is recorded only of those used.
    """
    named = {_id(entry["id"]): entry for entry in reversed(entries) if {"id", "name"} <= entry.keys()}
    numbers = (number for number in itertools.count(1) if number not in named)  # for identifiers that are words
    by_name: dict[str, Category] = {}
    found: dict[int | str, Category] = {}
    for own in sorted(named, key=lambda each: each not in used):
        faults = omissions if own in used else Omissions(omissions.origin)
        name = str(named[own]["name"])
        with faults.tolerated(f"category {name!r}"):
            names = distinct_names([str(each) for each in named[own].get("keypoints") or ()])
            fault = partial(faults.fault, f"category {name!r}")
            skeleton = _read_skeleton(named[own].get("skeleton"), len(names), fault)
            number = own if isinstance(own, int) else next(numbers)
            found[own] = by_name.setdefault(name, Category(number, name, names, skeleton))
    return {own: found[own] for own in reversed(named) if own in found}


def _read_skeleton(written: Any, keypoints: int, fault: Callable[[str], None]) -> tuple[tuple[int, int], ...]:
    """The lines of a skeleton between keypoints that its category has; ``fault`` is told how many others there are."""
    lines = [(whole_number(start), whole_number(end)) for start, end in written or ()]
    usable = tuple(line for line in lines if all(1 <= end <= keypoints for end in line))
    if len(usable) < len(lines):
        fault(f"{len(lines) - len(usable)} of {len(lines)} lines of the skeleton join keypoints that it lacks")
    return usable


def _write_category(category: Category) -> dict[str, Any]:
    fields = {"id": category.id, "name": category.name}
    if category.keypoints:
        fields |= {"keypoints": category.keypoints, "skeleton": category.skeleton}
    return fields


def _read_shape(
    kind: AnnotationKind,
    annotation: Mapping[str, Any],
    category: Category,
    size: tuple[int, int],
    fault: Callable[[str], None],
) -> Keypoints | Region | Box:
    """Raises ValueError if there is no such shape; ``fault`` is told of each part of it that cannot be used."""
    match kind:
        case AnnotationKind.keypoints:
            return _read_keypoints(annotation["keypoints"], category, fault)
        case AnnotationKind.masks:
            return _read_region(annotation["segmentation"], size, fault)
        case AnnotationKind.boxes:
            return _read_box(annotation["bbox"])


def _read_box(values: Sequence[object]) -> Box:
    left, top, width, height = (position(value) for value in values)
    return left - HALF, top - HALF, left + width - HALF, top + height - HALF


def _read_keypoints(values: Sequence[Any], category: Category, fault: Callable[[str], None]) -> Keypoints:
    values = _flat(values)
    if len(values) % 3:
        raise ValueError("its keypoints are not triples x, y, visibility")
    names = category.keypoints or tuple(str(number) for number in range(1, len(values) // 3 + 1))
    if len(values) != 3 * len(names):
        raise ValueError(f"it has {len(values) // 3} keypoints, its category {category.name!r} has {len(names)}")
    triples = zip(values[::3], values[1::3], values[2::3], strict=True)
    return read_points(names, triples, fault)


def _read_region(written: Any, size: tuple[int, int], fault: Callable[[str], None]) -> Region:
    if isinstance(written, dict):
        if [whole_number(side) for side in written["size"]] != list(size):
            raise ValueError(f"its mask is of size {written['size']}, the image has height and width {list(size)}")
        counts = written["counts"]
        packed = isinstance(counts, str)
        mask = decode_runs(unpack_runs(counts) if packed else [whole_number(run) for run in counts], size)
        return Region(mask, MaskEncoding.packed_runs if packed else MaskEncoding.runs)
    flat = isinstance(written, list) and not any(isinstance(each, list) for each in written)
    polygons = []
    for polygon in [written] if flat else written:
        try:
            polygons.append(_read_corners(_flat(polygon)) - HALF)
        except ValueError as error:
            if len(written) == 1 or flat:
                raise
            fault(str(error))
    return Region(fill(polygons, size))


def _flat(values: Sequence[Any]) -> Sequence[Any]:
    """The numbers of a list, also of one that holds a list for each point."""
    if isinstance(values, list) and all(isinstance(each, list) for each in values):
        return [number for each in values for number in each]
    return values


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
    left, top, right, bottom = keypoints.extent
    area = round((right - left) * (bottom - top), 2)
    fields = {"keypoints": triples, "num_keypoints": len(found), "keypoint_scores": scores, "area": area}
    return fields | _box_fields(keypoints.extent)


def _box_fields(box: Box) -> dict[str, Any]:
    left, top, right, bottom = box
    return {"bbox": [round(each, 2) for each in (left + HALF, top + HALF, right - left, bottom - top)]}
