"""The pairs that PF-PASCAL's own ``parsePascalVOC.mat`` lists, in the split of SCNet (Han et al., ICCV 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomatch.annotations import Points
from geomatch.datasets.base import read_mat
from geomatch.datasets.pascal_ilsvrc import VOC_CLASSES
from geomatch.errors import InputError


@dataclass(frozen=True)
class ListedPair:
    """A pair as a list names it.

    source, target: file names of the images. mirrored: flip images and points left to right.
    points: (K, 2) of source and target, from 1; None if they are those of the images' annotations.
    """

    origin: str
    source: str
    target: str
    category: str
    mirrored: bool = False
    points: tuple[Points, Points] | None = None


def split_sizes(pairs: int) -> dict[str, int]:
    """How many of a class's pairs are in each split, in their order (makeGT_combine_PASCAL.m of SCNet).

    >>> split_sizes(14)
    {'trn': 8, 'val': 3, 'test': 3}
    """
    train = -(-7 * pairs // 13)
    validation = -((train - pairs) // 2)
    return {"trn": train, "val": validation, "test": pairs - train - validation}


def pairs_of_split(path: Path, split: str) -> list[ListedPair]:
    """The pairs of a split, class by class, in the order of ``PascalVOC.pair``: a cell of n x 2 names for each class.

    Raises InputError, naming the file, if it is damaged or has another content.
    """
    (content,) = read_mat(path, "PascalVOC")
    if content.size != 1 or "pair" not in (content.dtype.names or ()):
        raise InputError(f"{path}: 'PascalVOC' must be a struct with the field 'pair'")
    cells = np.asarray(content["pair"].item())
    if cells.dtype != object or cells.size != len(VOC_CLASSES):
        raise InputError(f"{path}: 'PascalVOC.pair' must have a cell for each of the {len(VOC_CLASSES)} classes")
    listed = []
    for category, cell in zip(VOC_CLASSES, cells.ravel(), strict=True):
        every = iter(_class_pairs(path, category, np.asarray(cell)))
        splits = {name: list(islice(every, size)) for name, size in split_sizes(cell.size // 2).items()}
        listed += splits[split]
    return listed


def _class_pairs(path: Path, category: str, cell: NDArray[Any]) -> list[ListedPair]:
    if cell.size == 0:
        return []
    if cell.dtype != object or cell.ndim != 2 or cell.shape[1] != 2:
        raise InputError(f"{path}: the pairs of {category} must be n x 2 names of images")
    pairs = []
    for number, names in enumerate(cell, 1):
        origin = f"{path.name}, {category} {number}"
        source, target = (_image_name(name, f"{path}, {category} {number}") for name in names)
        pairs.append(ListedPair(origin, source, target, category))
    return pairs


def _image_name(value: object, origin: str) -> str:
    """A text that may lie in cells of one item, with the suffix of images."""
    while isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{origin}: is not the name of an image")
    return f"{value.strip().removesuffix('.jpg')}.jpg"
