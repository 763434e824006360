"""CUB-200-2011 (Wah et al., 2011) in the protocol of ASIC (Gupta et al., ICCV 2023): pairs of birds of one class."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from geomatch.annotations import Box, Points
from geomatch.datasets.base import Benchmark, image_size, read_mat, stored_image, unpacked
from geomatch.datasets.pairs import AnnotatedPair, PairErrors, check_pair
from geomatch.io.images import checked_size, load_image
from geomatch.io.inputs import read_input
from geomatch.io.parsing import position, reading, whole_number

FOLDER = "CUB_200_2011"
LISTS = (
    "images.txt",
    "classes.txt",
    "image_class_labels.txt",
    "train_test_split.txt",
    "bounding_boxes.txt",
    "parts/part_locs.txt",
)
PARTS = 15
PADDING = 0.05
"""How far a box is grown on each side, as a share of its width or height, before it is made square."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class SquareCrop:
    """A square of an image file, of ``side`` pixels from column ``left`` and row ``top``.

    Beyond the image, the pixels of its border are repeated.
    """

    path: Path
    name: str
    left: int
    top: int
    side: int

    def load(self) -> Tensor:
        pixels = load_image(self.path)
        rows, columns = (
            np.clip(np.arange(first, first + self.side), 0, length - 1)
            for first, length in zip((self.top, self.left), pixels.shape[1:], strict=True)
        )
        return checked_size(pixels[:, rows][:, :, columns].contiguous(), self.name)

    def fingerprint(self) -> str:
        state = self.path.stat()
        return f"{self.name}:{state.st_size}:{state.st_mtime_ns}:{self.left},{self.top},{self.side}"


@dataclass(frozen=True)
class Bird:
    """parts: (15, 2), in pixels of the crop, NaN where not visible."""

    crop: SquareCrop
    parts: Points


def splits(root: Path) -> list[str]:
    home = unpacked(root, FOLDER)
    return ["trn", "test"] if all((home / name).is_file() for name in LISTS) else []


def load(root: Path, split: str, errors: PairErrors) -> list[AnnotatedPair]:
    """Pair every two images of a class in a split, in both directions.

    The images are those of ``cachedir/cub/data/{train,test}_cub_cleaned.mat``, ACSM's list that ASIC takes, if it lies
    in the folder, else those of ``train_test_split.txt``.

    As in ASIC's ``datasets/cub.py`` (and ACSM before it), an image is cropped to its bird: the box of
    ``bounding_boxes.txt`` is grown by 5 %, made square, and filled up with the pixels of the border. Keypoints are the
    visible ones of ``parts/part_locs.txt``, which counts pixels from 1. The crops keep their pixels; there they are
    resized to 256 pixels, and so are errors under protocol ``asic``.

    Raises InputError naming what is missing or malformed.
    """
    home = unpacked(root, FOLDER)
    missing = [home / name for name in (*LISTS, "images") if not (home / name).exists()]
    if missing:
        raise CUB_200.missing(missing)
    tables = _Tables(home)
    members: defaultdict[int, list[int]] = defaultdict(list)
    for number in _numbers_of(tables, split):
        members[tables.find(tables.labels, number)].append(number)
    bird = cache(lambda number: _read_bird(home, tables, number))
    drawn = (
        (tables.find(tables.classes, label), *pair)
        for label, numbers in sorted(members.items())
        for pair in itertools.permutations(numbers, 2)
    )
    return errors.read_all(drawn, lambda each: _make_pair(bird, *each))


CUB_200 = Benchmark(
    name="cub-200",
    about="15 parts of birds of 200 classes, on crops",
    home="https://www.vision.caltech.edu/datasets/cub_200_2011/",
    archives="CUB_200_2011.tgz",
    splits=splits,
    reader=load,
    known_splits=("trn", "test"),
    folders=(FOLDER, "CUB-200-2011"),
)


class _Tables:
    """The official lists, by number of the image or of the class. Raises InputError, naming the file and line."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.images = dict(self._rows("images.txt", lambda row: row[0]))
        self.classes = dict(self._rows("classes.txt", lambda row: row[0]))
        self.labels = dict(self._rows("image_class_labels.txt", lambda row: whole_number(row[0])))
        self.trained = dict(self._rows("train_test_split.txt", lambda row: whole_number(row[0]) == 1))
        self.boxes = dict(self._rows("bounding_boxes.txt", _box))
        self.parts = self._read_parts()

    def find(self, table: Mapping[int, Value], number: int) -> Value:
        """The row of a number. Raises InputError if the lists do not agree."""
        with reading(f"{self.home}: the lists do not belong together"):
            return table[number]

    def _rows(self, name: str, convert: Callable[[list[str]], Value]) -> Iterator[tuple[int, Value]]:
        for line, text in enumerate(read_input(self.home / name).text.splitlines(), 1):
            with reading(f"{self.home / name}, line {line}"):
                number, *row = text.split()
                yield whole_number(number), convert(row)

    def _read_parts(self) -> dict[int, Points]:
        parts: defaultdict[int, Points] = defaultdict(lambda: np.full((PARTS, 2), np.nan))
        for number, (part, at) in self._rows("parts/part_locs.txt", _part):
            parts[number][part] = at
        return dict(parts)


def _numbers_of(tables: _Tables, split: str) -> list[int]:
    """The numbers of a split's images, ascending."""
    part = "train" if split == "trn" else "test"
    cleaned = tables.home / "cachedir" / "cub" / "data" / f"{part}_cub_cleaned.mat"
    if not cleaned.is_file():
        return sorted(number for number, trained in tables.trained.items() if trained == (split == "trn"))
    (images,) = read_mat(cleaned, "images")
    numbers = {name: number for number, name in tables.images.items()}
    with reading(f"{cleaned}: not ACSM's list of images"):
        if "rel_path" not in (images.dtype.names or ()):
            raise ValueError("'images' has no field 'rel_path'")
        return sorted(numbers[str(name.item())] for name in images["rel_path"].ravel())


def _box(row: list[str]) -> Box:
    left, top, width, height = map(position, row)
    if not (width > 0 and height > 0):
        raise ValueError("a box without area")
    return left, top, width, height


def _part(row: list[str]) -> tuple[int, tuple[float, float]]:
    """The place of a part, from 0, and where it is, NaN if it is not visible."""
    part, x, y, visible = row
    place = whole_number(part) - 1
    if not 0 <= place < PARTS:
        raise ValueError(f"part {part} is none of 1 to {PARTS}")
    return place, (position(x), position(y)) if whole_number(visible) else (np.nan, np.nan)


def _read_bird(home: Path, tables: _Tables, number: int) -> Bird:
    image = stored_image(home, f"images/{tables.find(tables.images, number)}", "images.txt")
    left, top, side = square_around(tables.find(tables.boxes, number))
    image_size(image.path)
    corner = np.array((left, top)) + 1  # part_locs.txt counts from 1
    return Bird(SquareCrop(image.path, image.name, left, top, side), tables.find(tables.parts, number) - corner)


def square_around(box: Box) -> tuple[int, int, int]:
    """First column, first row and side of the crop for a box of ``bounding_boxes.txt``: left, top, width, height.

    ``perturb_bbox`` and ``square_bbox`` of ASIC: the last column of a box is left + width, from 1, and halves are
    rounded away from zero, as in Python 2.

    >>> square_around((61.0, 28.0, 331.0, 312.0))
    (43, 0, 366)
    """
    left, top, width, height = box
    edges = np.array((left - 1, top - 1, left + width - 1, top + height - 1))
    grow = PADDING * np.array((width + 1, height + 1))
    first, last = _rounded(edges[:2] - grow), _rounded(edges[2:] + grow)
    sides = last - first + 1
    side = int(sides.max())
    x, y = (first - _rounded((side - sides) / 2)).astype(int).tolist()
    return x, y, side


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sign(values) * np.floor(np.abs(values) + 0.5))


def _make_pair(bird: Callable[[int], Bird], category: str, source_number: int, target_number: int) -> AnnotatedPair:
    source, target = bird(source_number), bird(target_number)
    shown = np.isfinite(source.parts[:, 0])
    both = shown & np.isfinite(target.parts[:, 0])
    pair = AnnotatedPair(
        source.crop,
        target.crop,
        category,
        source.parts[both],
        target.parts[both],
        origin=f"{source.crop.name}, {target.crop.name}",
        hidden_points=source.parts[shown & ~both],
    )
    return check_pair(pair, (source.crop.side, source.crop.side))
