"""Objects and their parts in PASCAL-Part's own files (Chen et al., CVPR 2014)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geomatch.datasets.base import read_mat
from geomatch.datasets.pairs import Mask
from geomatch.errors import InputError

Size = tuple[int, int]

SILHOUETTES = frozenset({"boat", "chair", "diningtable", "sofa"})
"""Classes without parts: their one part is the whole object."""

SYNONYMS: Mapping[str, str] = {"beak": "muzzle", "body": "torso", "nose": "muzzle", "stern": "tail"}
"""Parts of different classes that correspond; see `shared_name`."""


@dataclass(frozen=True)
class PartObject:
    """An object of an image. mask: (H, W). parts: (H, W) by name."""

    category: str
    mask: Mask
    parts: dict[str, Mask]


def read_objects(path: Path, size: Size) -> list[PartObject]:
    """The objects in ``Annotations_Part/<image>.mat``: ``anno.objects``, structs of ``class``, ``mask`` and ``parts``.

    size: (height, width) of the image. Raises InputError, naming the file, if it is malformed or of another size.
    """
    (annotation,) = read_mat(path, "anno")
    try:
        objects = [
            PartObject(
                str(each["class"].item()),
                each["mask"] > 0,
                {str(part["part_name"].item()): part["mask"] > 0 for part in each["parts"].ravel()},
            )
            for each in annotation["objects"][0, 0].ravel()
        ]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: 'anno' is not as in PASCAL-Part ({error})") from error
    for each in objects:
        for name, mask in {**_named(each.parts), f"object '{each.category}'": each.mask}.items():
            if mask.shape != size:
                raise InputError(f"{path}: the mask of {name} is {mask.shape}, but its image is {size}")
    return objects


def largest(objects: Sequence[PartObject], category: str, path: Path) -> PartObject:
    """The object of a class with the most pixels. Raises InputError, naming ``path``, if there is none."""
    own = [each for each in objects if each.category == category]
    if not own:
        raise InputError(f"{path}: has no {category}")
    return max(own, key=lambda each: np.count_nonzero(each.mask))


def in_box(objects: Sequence[PartObject], category: str, box: tuple[float, ...], path: Path) -> PartObject:
    """The object of a class whose mask fits a box best. Raises InputError, naming ``path``, if none overlaps by half.

    box: (left, top, right, bottom), from 0, in pixels that belong to it.
    """
    own = [
        (overlap(mask_box(each.mask), box), each) for each in objects if each.category == category and each.mask.any()
    ]
    best = max(own, key=lambda each: each[0], default=None)
    if best is None or best[0] < 0.5:
        raise InputError(f"{path}: has no {category} in the box {', '.join(f'{side:g}' for side in box)}")
    return best[1]


def mask_box(mask: Mask) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the pixels of a mask, which must not be empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1]), float(rows[-1])


def overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two boxes whose sides are pixels that belong to them."""
    width, height = (
        max(0.0, min(first[2 + axis], second[2 + axis]) - max(first[axis], second[axis]) + 1) for axis in (0, 1)
    )
    areas = sum((box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (first, second))
    return width * height / (areas - width * height)


def common_parts(source: PartObject, target: PartObject) -> tuple[list[Mask], list[Mask]]:
    """The masks of the parts that two objects share, in alphabetical order of their names.

    Within a class names must be equal, as in FlowWeb's ``evaluate.m``. Across classes parts of the same `shared_name`
    are one part.
    """
    name: Callable[[str], str] = str if source.category == target.category else shared_name
    first, second = (_united(each, name) for each in (source, target))
    names = sorted(first.keys() & second.keys())
    return [first[each] for each in names], [second[each] for each in names]


def stacked(masks: Sequence[Mask], size: tuple[int, ...]) -> Mask:
    """Masks (H, W) as one array (P, H, W), also if there is none."""
    return np.array(masks, dtype=bool).reshape(-1, *size)


def shared_name(part: str) -> str:
    """The name that a part shares with the corresponding parts of other classes (ours).

    Numbers are dropped; upper and lower legs are a leg, paws and hooves a foot; sides of a train's head and coaches are
    sides of a vehicle.

    >>> [shared_name(part) for part in ("wheel_2", "lfuleg", "rbho", "hfrontside", "cleftside_1", "nose")]
    ['wheel', 'lfleg', 'rbfoot', 'frontside', 'leftside', 'muzzle']
    """
    name = re.sub(r"_\d+$", "", part)
    name = re.sub(r"^([lr][fb])[ul]leg$", r"\1leg", name)
    name = re.sub(r"^([lr][fb])(?:pa|ho)$", r"\1foot", name)
    name = re.sub(r"^[hc]((?:front|left|right|back|roof)side)$", r"\1", name)
    return SYNONYMS.get(name, name)


def _united(each: PartObject, name: Callable[[str], str]) -> dict[str, Mask]:
    """The parts by their names under ``name``; those of one name are united."""
    parts = {each.category: each.mask} if each.category in SILHOUETTES and not each.parts else each.parts
    united: dict[str, Mask] = {}
    for part, mask in parts.items():
        united[name(part)] = united[name(part)] | mask if name(part) in united else mask
    return united


def _named(parts: Mapping[str, Mask]) -> dict[str, Mask]:
    return {f"part '{name}'": mask for name, mask in parts.items()}
