"""Reading COCO documents: keypoints, masks (polygons or runs) and boxes on many images, in one JSON file.

In COCO keypoints are pixels, counted from 0, but polygons and boxes are measured from the upper left *corner* of the
first pixel: half a pixel is subtracted.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from geomatch.annotations import (
    UNNAMED,
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
from geomatch.io.annotations.points import box_between, read_points
from geomatch.io.annotations.polygons import fill
from geomatch.io.annotations.rle import decode_runs, unpack_runs
from geomatch.io.names import has_no_name, meant_names, name_parts
from geomatch.io.parsing import (
    MAX_CORNERS,
    check_masks,
    check_stated_size,
    position,
    reading,
    stated_size,
    whole_number,
)
from geomatch.options import AnnotationFormat, AnnotationKind, MaskEncoding

HALF = 0.5
"""From a pixel's corner, where COCO has its origin, to its centre."""

FIELDS: Mapping[AnnotationKind, str] = {
    AnnotationKind.keypoints: "keypoints",
    AnnotationKind.masks: "segmentation",
    AnnotationKind.boxes: "bbox",
}


_FILE_NAMES = ("file_name", "filename", "name", "path")
"""What tools call the name of an image's file."""


def as_coco(document: object) -> Mapping[str, Any] | None:
    """The COCO document that a file's content is or, as a list of results, stands for; None if it is neither."""
    if isinstance(document, dict):
        return document if isinstance(document.get("images"), list | dict) and "annotations" in document else None
    if not isinstance(document, list) or not all(_is_result(entry) for entry in document) or not document:
        return None
    return {
        "images": [{"id": own} for own in {_id(entry["image_id"]): None for entry in document}],
        "annotations": document,
    }


def _is_result(entry: object) -> bool:
    return isinstance(entry, dict) and "image_id" in entry and any(field in entry for field in FIELDS.values())


def read_coco(
    document: Mapping[str, Any], kind: AnnotationKind, image: Path, size: tuple[int, int], omissions: Omissions
) -> Annotations:
    """The annotations of one of a document's images.

    Args:
        document: the content of a file.
        kind: what is read of each annotation.
        image: the document's image is the one of this name.
        size: the image's (height, width).
        omissions: takes the annotations that cannot be used, or are of other kinds, and what is assumed. Other images
            are not looked at, and neither are categories that no annotation of this image has.

    Raises InputError, naming the file, if the document lacks the image or states another size for it.
    """
    path = omissions.origin
    entries = _entries_of(path, _entries(document, "images", omissions), image)
    for entry in entries:
        check_stated_size(f"{path}, image {entry.get('id')!r}", entry.get("height"), entry.get("width"), image, size)
    ids = {_id(entry.get("id")) for entry in entries}
    alone = len(document["images"]) == 1  # so that annotations need not say whose they are
    annotations = _entries(document, "annotations", omissions)
    own = [each for each in annotations if _id(each.get("image_id")) in ids or (alone and "image_id" not in each)]
    marks = _marks(own, kind, omissions)
    with reading(f"{path}, annotations"):
        check_masks(len(marks) if kind is AnnotationKind.masks else 0, size)
    categories = _read_categories(document, marks, omissions)
    instances: list[Instance] = []
    for number, annotation in enumerate(marks, 1):
        item = f"annotation {annotation.get('id', number)}"
        with omissions.tolerated(item):
            category = categories[_id(annotation.get("category_id"))]
            shape = _read_shape(kind, annotation, category, size, omissions, item)
            instances.append(Instance(category.name, len(instances) + 1, shape))
    unique = {category.name: _with_keypoints(category, instances) for category in categories.values()}
    return Annotations(instances, AnnotationFormat.coco, list(unique.values()))


def split_coco(document: Mapping[str, Any], omissions: Omissions) -> dict[str, Mapping[str, Any]]:
    """A document for each image that has a name: the image, its annotations and all categories.

    Two images of one name are a fault; ``omissions`` takes it, and the second one is left out.
    """
    own: dict[int | str, list[Mapping[str, Any]]] = {}
    for annotation in _entries(document, "annotations", omissions):
        own.setdefault(_id(annotation.get("image_id")), []).append(annotation)
    found: dict[str, Mapping[str, Any]] = {}
    for entry in _entries(document, "images", omissions):
        name = entry.get("file_name")
        if not isinstance(name, str) or name in found:
            reason = f"has the name of another, {name!r}" if name else "has no name"
            omissions.fault(f"image {entry.get('id')!r}", reason)
            continue
        found[name] = {**document, "images": [entry], "annotations": own.get(_id(entry.get("id")), [])}
    return found


def _marks(
    annotations: Sequence[Mapping[str, Any]], kind: AnnotationKind, omissions: Omissions
) -> list[Mapping[str, Any]]:
    """The annotations that have, or imply, a shape of a kind; ``omissions`` counts the others.

    A segmentation has a box. Where no annotation of an image has a segmentation, the boxes are its masks.
    """
    fields = {FIELDS[kind]}
    if kind is AnnotationKind.boxes:
        fields.add(FIELDS[AnnotationKind.masks])
    elif kind is AnnotationKind.masks and not any(each.get(FIELDS[kind]) for each in annotations):
        fields.add(FIELDS[AnnotationKind.boxes])
    marks = [each for each in annotations if any(each.get(field) for field in fields)]
    if others := len(annotations) - len(marks):
        omissions.others[f"without {FIELDS[kind]}"] += others
    return marks


def _with_keypoints(category: Category, instances: Sequence[Instance]) -> Category:
    """A category that names its keypoints; one that does not has as many as any of its instances."""
    shapes = [each.shape for each in instances if each.label == category.name]
    named = max((each.names for each in shapes if isinstance(each, Keypoints)), key=len, default=())
    return category if category.keypoints else replace(category, keypoints=named)


@dataclass(frozen=True)
class CocoObject:
    """An object with keypoints on one of a document's images.

    box: as written, or else the keypoints' extent. size: the image's (height, width), if the document states it.
    """

    file_name: str
    category: str
    keypoints: Keypoints
    box: Box
    size: tuple[int, int] | None = None


def read_coco_objects(document: Mapping[str, Any], omissions: Omissions) -> list[CocoObject]:
    """The objects with keypoints on all of a document's images, in the order of the document.

    omissions: takes the annotations that cannot be used, or have no keypoints.
    """
    images = {_id(each.get("id")): each for each in _entries(document, "images", omissions)}
    annotations = _entries(document, "annotations", omissions)
    marks = [each for each in annotations if each.get("keypoints")]
    if others := len(annotations) - len(marks):
        omissions.others["without keypoints"] += others
    categories = _read_categories(document, marks, omissions)
    found = []
    for number, annotation in enumerate(marks, 1):
        item = f"annotation {annotation.get('id', number)}"
        with omissions.tolerated(item):
            image, category = images[_id(annotation["image_id"])], categories[_id(annotation.get("category_id"))]
            if (file_name := _file_name(image)) is None:
                raise ValueError("its image has no file_name")
            keypoints = _read_keypoints(annotation["keypoints"], category, omissions, item)
            if not keypoints.present.any():
                omissions.others["without keypoints"] += 1
                continue
            box = _read_box(annotation["bbox"]) if annotation.get("bbox") else keypoints.extent
            size = stated_size(image.get("height"), image.get("width"))
            found.append(CocoObject(file_name, category.name, keypoints, box, size))
    return found


def _entries(document: Mapping[str, Any], key: str, omissions: Omissions) -> list[Mapping[str, Any]]:
    """The objects of a list in a document, none if it is null or missing; an object with an entry for each id does.

    Raises InputError if it is neither.
    """
    entries = document.get(key) or []
    if isinstance(entries, dict):
        named = {own: {"name": entry} if isinstance(entry, str) else entry for own, entry in entries.items()}
        entries = [{"id": own} | entry if isinstance(entry, dict) else entry for own, entry in named.items()]
    if not isinstance(entries, list):
        raise InputError(f"{omissions.origin}: its '{key}' should be a list")
    objects: list[Mapping[str, Any]] = [entry for entry in entries if isinstance(entry, dict)]
    if strange := len(entries) - len(objects):
        omissions.others[f"in '{key}' that is no object"] += strange
    return objects


def _file_name(entry: Mapping[str, Any]) -> str | None:
    return next((entry[key] for key in _FILE_NAMES if isinstance(entry.get(key), str)), None)


def _entries_of(path: str, entries: Sequence[Mapping[str, Any]], image: Path) -> list[Mapping[str, Any]]:
    """The entry of an image, see `meant_names`, or all that have the same name. The only entry does for an image that
    has no name; if it has none itself, for any. Where no entry has a name, their identifiers are names."""
    named = [(name, each) for each in entries if (name := _file_name(each)) is not None]
    if not named and len(entries) == 1:
        return [entries[0]]
    if has_no_name(image) and len(named) > 1:
        raise InputError(f"{path}: has {len(named)} images, and the reference, {image}, no name that tells which it is")
    if not named:  # 000000000139.jpg is of COCO's 139
        ids = ((_id(each.get("id")), each) for each in entries)
        named = [(image.name if own == _id(image.stem) else str(own), each) for own, each in ids]
    meant = meant_names({name for name, _ in named}, image)
    longest = max((len(name_parts(name)) for name in meant), default=0)
    closest = {name_parts(name): name for name in meant if len(name_parts(name)) == longest}
    if len(closest) != 1:
        many = "several images" if closest else "no image"
        raise InputError(f"{path}: has {many} named {image.name} among its images; it should have one")
    return [each for name, each in named if name_parts(name) in closest]


def _id(value: object) -> int | str:
    """An identifier in one spelling: tools write the number 3 as 3, 3.0 or "3"."""
    try:
        return whole_number(value)
    except ValueError:
        return str(value)


def _read_categories(
    document: Mapping[str, Any], marks: Sequence[Mapping[str, Any]], omissions: Omissions
) -> dict[int | str, Category]:
    """The categories of a document and its annotations, by identifier. Of those of one name, the first that annotations
    have stands for all. One that the document lacks is called by its identifier, or `UNNAMED` if that is missing, too.

    A fault is recorded only of those that annotations have.
    """
    used = {_id(each.get("category_id")): each.get("category_id") for each in marks}
    entries = _entries(document, "categories", omissions)
    known = [entry for entry in entries if "id" in entry and entry.get("name") is not None]
    named: dict[int | str, Mapping[str, Any]] = {_id(entry["id"]): entry for entry in reversed(known)}
    for own in reversed([own for own in used if own not in named]):
        named[own] = {"name": UNNAMED if used[own] is None else own}
        if used[own] is not None:
            omissions.assumed(f"category {own!r} has no name and is called that")
    numbers = (number for number in itertools.count(1) if number not in named)  # for identifiers that are words
    by_name: dict[str, Category] = {}
    found: dict[int | str, Category] = {}
    for own in sorted(named, key=lambda each: each not in used):
        faults = omissions if own in used else Omissions(omissions.origin)
        name = str(named[own]["name"])
        with faults.tolerated(f"category {name!r}"):
            names = distinct_names(_keypoint_names(named[own].get("keypoints")))
            fault = partial(faults.fault, f"category {name!r}")
            skeleton = _read_skeleton(named[own].get("skeleton"), names, fault)
            number = own if isinstance(own, int) else next(numbers)
            found[own] = by_name.setdefault(name, Category(number, name, names, skeleton))
    return {own: found[own] for own in reversed(named) if own in found}


def _keypoint_names(written: Any) -> list[str]:
    """The names in a list, also of objects that have a name, in an object by number, or in a text between commas."""
    if isinstance(written, str):
        return [name.strip() for name in written.split(",")]
    entries = (written.values() if isinstance(written, dict) else written) or ()
    return [str(entry.get("name", entry) if isinstance(entry, dict) else entry) for entry in entries]


def _read_skeleton(written: Any, names: Sequence[str], fault: Callable[[str], None]) -> tuple[tuple[int, int], ...]:
    """The lines of a skeleton between keypoints that its category has, given by number or name; ``fault`` is told how
    many others there are."""
    lines = written if isinstance(written, list) else []
    places = {name: number for number, name in enumerate(names, 1)}
    usable: list[tuple[int, int]] = []
    for line in lines:
        with suppress(ValueError, TypeError):
            start, end = (places.get(each) or whole_number(each) for each in line)
            if 1 <= start <= len(names) and 1 <= end <= len(names):
                usable.append((start, end))
    if len(usable) < len(lines):
        fault(f"{len(lines) - len(usable)} of {len(lines)} lines of the skeleton join keypoints that it lacks")
    return tuple(usable)


def _read_shape(
    kind: AnnotationKind,
    annotation: Mapping[str, Any],
    category: Category,
    size: tuple[int, int],
    omissions: Omissions,
    item: str,
) -> Keypoints | Region | Box:
    """Raises ValueError if there is no such shape; ``omissions`` takes each part of it that cannot be used."""
    if kind is AnnotationKind.keypoints:
        return _read_keypoints(annotation["keypoints"], category, omissions, item)
    as_mask = annotation.get("segmentation") if kind is AnnotationKind.masks else not annotation.get("bbox")
    if as_mask:
        region = _read_region(annotation["segmentation"], size, partial(omissions.fault, item))
        if kind is AnnotationKind.masks:
            return region
        if not region.mask.any():
            raise ValueError("its mask has no pixel of the image")
        omissions.assumed("boxes that are not given are those of their masks")
        return region.box
    box = _read_box(annotation["bbox"])
    if kind is AnnotationKind.boxes:
        return box
    omissions.assumed("its boxes are read as masks, since it has no masks")
    left, top, right, bottom = box
    return Region(fill([np.array([(left, top), (right, top), (right, bottom), (left, bottom)])], size))


def _read_box(values: Sequence[object]) -> Box:
    left, top, width, height = (position(value) for value in values)
    return box_between((left - HALF, top - HALF), (left + width - HALF, top + height - HALF))


def _read_keypoints(values: Sequence[Any], category: Category, omissions: Omissions, item: str) -> Keypoints:
    points = _read_triples(values, len(category.keypoints))
    names = category.keypoints or tuple(str(number) for number in range(1, len(points) + 1))
    if len(points) != len(names):
        raise ValueError(f"it has {len(points)} keypoints, its category {category.name!r} has {len(names)}")
    if len(points) * 2 == len(_flat(values)):
        omissions.assumed("keypoints are pairs x, y; all are seen")
    if any(_is_fraction(seen) for _, _, seen in points):
        omissions.assumed("visibilities that are fractions are taken for confidences: all above 0 are seen")
        points = [(x, y, 2 if position(seen) > 0 else 0) for x, y, seen in points]
    return read_points(names, points, partial(omissions.fault, item))


def _read_triples(values: Sequence[Any], known: int) -> list[tuple[Any, Any, Any]]:
    """x, y and visibility of each keypoint. If there are only x and y, all are seen: in lists of two numbers, or if the
    numbers are two for each of the ``known`` keypoints, or cannot be three for each.

    Raises ValueError for other numbers of numbers.
    """
    flat = _flat(values)
    if not isinstance(flat, list):
        raise ValueError("its keypoints should be a list of numbers")
    if flat is not values:
        pairs = all(len(each) == 2 for each in values)
    else:
        triples = len(flat) % 3 == 0 and all(seen in (0, 1, 2) for seen in flat[2::3])
        pairs = not triples and (len(flat) == 2 * known or (not known and len(flat) % 3 > 0))
    if len(flat) % (2 if pairs else 3):
        raise ValueError("its keypoints are neither triples x, y, visibility nor pairs x, y")
    if pairs:
        return [(x, y, 2) for x, y in zip(flat[::2], flat[1::2], strict=True)]
    return list(zip(flat[::3], flat[1::3], flat[2::3], strict=True))


def _is_fraction(value: object) -> bool:
    with suppress(ValueError):
        return 0 < position(value) < 1
    return False


def _read_region(written: Any, size: tuple[int, int], fault: Callable[[str], None]) -> Region:
    if isinstance(written, dict):
        return _read_runs(written, size)
    if not isinstance(written, list):
        raise ValueError("its segmentation should be a list of polygons, or runs")
    if written and all(isinstance(part, dict) for part in written):
        parts = [_read_runs(part, size) for part in written]
        return replace(parts[0], mask=np.logical_or.reduce([part.mask for part in parts]))
    flat = not any(isinstance(each, list) for each in written)
    polygons = []
    for polygon in [written] if flat else written:
        try:
            polygons.append(_read_corners(_flat(polygon)) - HALF)
        except ValueError as error:
            if len(written) == 1 or flat:
                raise
            fault(str(error))
    return Region(fill(polygons, size))


def _read_runs(written: Mapping[str, Any], size: tuple[int, int]) -> Region:
    if written.get("size") and [whole_number(side) for side in written["size"]] != list(size):
        raise ValueError(f"its mask is of size {written['size']}, the image has height and width {list(size)}")
    counts = written["counts"]
    if not isinstance(counts, str):
        return Region(decode_runs([whole_number(run) for run in counts], size), MaskEncoding.runs)
    plain = re.sub(r"^b(['\"])(.*)\1$", r"\2", counts)  # Python's bytes, written as text
    return Region(decode_runs(unpack_runs(plain), size), MaskEncoding.packed_runs)


def _flat(values: Sequence[Any]) -> Sequence[Any]:
    """The numbers of a list, also of one that holds a list for each point."""
    if isinstance(values, list) and values and all(isinstance(each, list) for each in values):
        return [number for each in values for number in each]
    return values


def _read_corners(values: Sequence[object]) -> Points:
    """The corners (N, 2) of a polygon given as x, y, x, y ... Raises ValueError."""
    if isinstance(values, str) or len(values) % 2 or len(values) < 6:
        raise ValueError("a polygon should be a list x, y, x, y ... of three corners or more")
    if len(values) > 2 * MAX_CORNERS:
        raise ValueError(f"a polygon has more than {MAX_CORNERS} corners")
    return np.array([position(value) for value in values], dtype=np.float64).reshape(-1, 2)
