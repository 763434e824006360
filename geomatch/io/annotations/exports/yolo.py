"""Poses of YOLO, a text file for each image, read as labelme documents; ``data.yaml`` says what their numbers mean.

The format: https://docs.ultralytics.com/datasets/pose/. A line is ``class x y width height`` and for each keypoint
``x y visibility``, or ``x y``, all as shares of the image's sides, from the corner of the first pixel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from geomatch.annotations import Visibility, mirror_partners
from geomatch.errors import InputError
from geomatch.io.annotations.exports.shapes import Document, labelme_document, shape
from geomatch.io.annotations.omissions import Omissions
from geomatch.io.annotations.points import read_visibility
from geomatch.io.inputs import InputFile, read_input
from geomatch.io.parsing import position, reading, whole_number
from geomatch.runtime.optional import import_yaml

DATA_FILE = "data.yaml"
_BOX_NUMBERS = 5  # the class and a box
_MAX_DATA_BYTES = 1 << 20
_FOLDERS_ABOVE = 3  # of labels/train/a.txt: labels/train, labels, and what holds it


@dataclass(frozen=True)
class PoseData:
    """What ``data.yaml`` says.

    classes: names by number. shape: of a pose, how many keypoints with how many numbers each. flipped: which keypoint
    each is on a flipped image. keypoints: their names, by class.
    """

    classes: Mapping[int, str]
    shape: tuple[int, int] | None = None
    flipped: tuple[int, ...] = ()
    keypoints: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    def names(self, number: int, count: int, omissions: Omissions) -> tuple[str, ...]:
        """Of the keypoints of a class; those that have none are numbered, and called left or right as they flip."""
        own = self.keypoints.get(number, ())[:count]
        flipped = self.flipped if len(self.flipped) == count else tuple(range(count))
        if own:
            if list(flipped[: len(own)]) not in (mirror_partners(own), list(range(len(own)))):
                omissions.assumed("flip_idx exchanges points whose names do not say left and right: sides are not told")
            return own + tuple(str(place + 1) for place in range(len(own), count))
        if flipped != tuple(range(count)):
            omissions.assumed("its points have no names: of two that flip_idx exchanges the first is called left")
        return tuple(_side(place, other) for place, other in enumerate(flipped))


def is_yolo_pose(text: str) -> bool:
    """Whether the first line of a text is one of a pose: a class, and at least six shares of sides."""
    first = next(iter(text.lstrip("\ufeff").split("\n", 1)), "").split()
    try:
        numbers = [float(each) for each in first]
    except ValueError:
        return False
    return len(numbers) > _BOX_NUMBERS + 1 and numbers[0] == int(numbers[0]) and all(0 <= n <= 1 for n in numbers[1:5])


def read_yolo_pose(file: InputFile, size: tuple[int, int], omissions: Omissions) -> Document:
    """The poses of an image of ``size`` (height, width); ``omissions`` takes the lines that cannot be used.

    Raises InputError for a ``data.yaml`` that cannot be read, MissingLibraryError where its package is not there.
    """
    found, (height, width) = data_file(file.path), size
    data = _parse(read_input(found)) if found else PoseData({})
    shapes: list[dict[str, Any]] = []
    for number, line in enumerate(file.text.lstrip("\ufeff").splitlines(), 1):
        if not line.strip():
            continue
        with omissions.tolerated(f"line {number}"):
            values = line.split()
            count, each = _pose_shape(values, data)
            category = whole_number(values[0])
            own = {"group_id": f"line {number}", "object": data.classes.get(category, str(category))}
            points = zip(*(values[_BOX_NUMBERS + axis :: each] for axis in range(each)), strict=True)
            for name, (x, y, *seen) in zip(data.names(category, count, omissions), points, strict=True):
                place = (position(x) * width, position(y) * height)
                shown = read_visibility(seen[0]) if seen else _seen_unless_zero(place)
                shapes.append(shape("point", name, [place], visibility=int(shown), **own))
    return labelme_document(shapes)


def _side(place: int, other: int) -> str:
    """What a point without a name is called, which is ``other`` on a flipped image."""
    number = str(min(place, other) + 1)
    return number if place == other else f"{'left' if place < other else 'right'} {number}"


def _seen_unless_zero(place: tuple[float, float]) -> Visibility:
    return Visibility.seen if any(place) else Visibility.absent


def _pose_shape(values: Sequence[str], data: PoseData) -> tuple[int, int]:
    """How many keypoints a line has, and numbers of each. Raises ValueError."""
    numbers = len(values) - _BOX_NUMBERS
    if data.shape is None:
        if numbers <= 0 or numbers % 3:
            raise ValueError(f"{len(values)} numbers are no class, box and x, y, visibility of points; see {DATA_FILE}")
        return numbers // 3, 3
    if numbers != data.shape[0] * data.shape[1]:
        raise ValueError(f"has {numbers} numbers after its box; kpt_shape of {DATA_FILE} asks for {data.shape}")
    return data.shape


def data_file(labels: Path) -> Path | None:
    """The ``data.yaml`` nearest to a file of labels: in its folder, or in the two above."""
    places = [folder / DATA_FILE for folder in list(labels.absolute().parents)[:_FOLDERS_ABOVE]]
    return next(filter(Path.is_file, places), None)


@lru_cache(maxsize=1)
def _parse(file: InputFile) -> PoseData:
    if len(file.content) > _MAX_DATA_BYTES:
        raise InputError(f"{file}: larger than {_MAX_DATA_BYTES >> 20} MiB; it should hold names alone")
    yaml = import_yaml()
    try:
        document = yaml.safe_load(file.text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{file}: not YAML ({' '.join(str(error).split())})") from error
    with reading(str(file)):
        named, stated, flipped = (document.get(key) for key in ("kpt_names", "kpt_shape", "flip_idx"))
        classes = {number: str(name) for number, name in _numbered(document.get("names")).items()}
        shape = None if stated is None else _checked_shape([whole_number(each) for each in stated])
        places = tuple(whole_number(each) for each in flipped or ())
        if any(not 0 <= other < len(places) or places[other] != place for place, other in enumerate(places)):
            raise ValueError("flip_idx does not exchange points in pairs")
        by_class = dict.fromkeys(classes or (0,), named) if _is_flat(named) else _numbered(named)
        keypoints = {number: tuple(str(name) for name in own) for number, own in by_class.items()}
        return PoseData(classes, shape, places, keypoints)


def _checked_shape(stated: Sequence[int]) -> tuple[int, int]:
    count, each = stated
    if count < 1 or each not in (2, 3):
        raise ValueError(f"kpt_shape is {list(stated)}; it should be how many points, and 2 or 3 numbers of each")
    return count, each


def _is_flat(names: object) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def _numbered(values: Any) -> dict[int, Any]:
    """A list or a mapping of numbers, as a mapping."""
    pairs = values.items() if isinstance(values, Mapping) else enumerate(values or ())
    return {whole_number(number): value for number, value in pairs}
