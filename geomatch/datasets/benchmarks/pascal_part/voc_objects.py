"""Objects of PASCAL VOC as its own files annotate them, and their keypoints in PASCAL3D+ (Xiang et al., WACV 2014)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from geomatch.annotations import Points
from geomatch.datasets.base import read_mat
from geomatch.datasets.benchmarks.pascal_part.part_objects import overlap
from geomatch.errors import InputError
from geomatch.io.inputs import read_input

SMALLEST = 64
"""Pixels of an object's shorter side; smaller objects show no parts."""
VISIBLE = 1
"""PASCAL3D+'s status of a keypoint that can be seen."""


@dataclass(frozen=True)
class VocObject:
    """An object. stem: the image's name without suffix. pose: VOC's, as "Left". box: from 0, as VOC's bndbox is from 1:
    (left, top, right, bottom), pixels that belong to it."""

    stem: str
    category: str
    pose: str
    box: tuple[float, float, float, float]


def read_voc_objects(folder: Path, stems: Collection[str]) -> list[VocObject]:
    """The objects of the images ``stems`` in VOC's ``Annotations``, without truncated, difficult and small ones.

    Images without a file there are left out. Raises InputError, naming the file, for a malformed one.
    """
    files = (folder / f"{stem}.xml" for stem in sorted(stems))
    return [found for file in files if file.is_file() for found in _read_xml(file)]


def read_keypoints(path: Path, category: str, box: tuple[float, ...]) -> dict[str, tuple[float, float]]:
    """The visible keypoints of an object in PASCAL3D+'s ``Annotations/<class>_pascal/<image>.mat``, from 0, by name.

    The object is the one of the class whose ``bbox`` overlaps ``box`` most, and by half at least. ``anchors`` has for
    each name a struct of ``location``, x and y from 1, and ``status``. Empty without a file or an object. Raises
    InputError, naming the file, if it is malformed.
    """
    if not path.is_file():
        return {}
    (record,) = read_mat(path, "record")
    try:
        own = [each for each in record["objects"][0, 0].ravel() if each["class"].item() == category]
        boxes = [np.asarray(each["bbox"], np.float64).ravel() - 1 for each in own]
        fits = [overlap(found.tolist(), box) for found in boxes]
        if max(fits, default=0.0) < 0.5:
            return {}
        anchors = own[int(np.argmax(fits))]["anchors"]
        found = {}
        for name in anchors.dtype.names or ():
            anchor = anchors[name][0, 0]
            location = np.asarray(anchor["location"][0, 0], np.float64).ravel()
            if anchor["status"][0, 0].item() == VISIBLE and np.isfinite(location).all():
                x, y = location.tolist()
                found[name] = (x - 1, y - 1)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: 'record' is not as in PASCAL3D+ ({error})") from error
    return found


def shared_points(
    source: dict[str, tuple[float, float]], target: dict[str, tuple[float, float]]
) -> tuple[Points, Points]:
    """The positions (K, 2) of the keypoints that both objects have, by name."""
    names = sorted(source.keys() & target.keys())
    first, second = (np.array([each[name] for name in names], np.float64).reshape(-1, 2) for each in (source, target))
    return first, second


def _read_xml(file: Path) -> Iterator[VocObject]:
    try:
        objects = ElementTree.fromstring(read_input(file).content).findall("object")
        for each in objects:
            box = each.find("bndbox")
            if box is None:
                raise ValueError("an object has no bndbox")
            left, top, right, bottom = (float(box.findtext(side, "")) - 1 for side in ("xmin", "ymin", "xmax", "ymax"))
            usable = all(each.findtext(flag, "0").strip() != "1" for flag in ("truncated", "difficult"))
            if usable and min(right - left, bottom - top) + 1 >= SMALLEST:
                pose = each.findtext("pose", "").strip() or "Unspecified"
                yield VocObject(file.stem, each.findtext("name", "").strip(), pose, (left, top, right, bottom))
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{file}: not an annotation of PASCAL VOC ({error})") from error
