"""Annotations of an image: keypoints, masks and boxes of instances, in one frame whatever file they came from.

Positions are (x, y) in pixels of the image, pixel centres at integers; boxes are (left, top, right, bottom), their
sides between pixels, so the box of a whole image of W x H runs from -1/2 to W - 1/2 and H - 1/2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geomatch.options import AnnotationFormat, MaskEncoding

Points = NDArray[np.float64]
Box = tuple[float, float, float, float]

UNNAMED = "object"
"""Label of an instance for which a file has none, as labelme files for points."""
_SIDES = {"left": "right", "right": "left"}


class Visibility(IntEnum):
    """COCO's values: absent; guessed, that is, hidden or without a valid match; seen."""

    absent = 0
    guessed = 1
    seen = 2


@dataclass(frozen=True)
class Keypoints:
    """Named points of one instance, in the order of its category.

    points: (K, 2), arbitrary where a point is absent. visibility: (K,) of `Visibility`.
    confidence: (K,) in [0, 1], None for points marked by hand.
    """

    names: tuple[str, ...]
    points: Points
    visibility: NDArray[np.int64]
    confidence: NDArray[np.float64] | None = None

    @property
    def present(self) -> NDArray[np.bool_]:
        return self.visibility > Visibility.absent

    @property
    def extent(self) -> Box:
        """The tightest box round the points that are present, of which there must be one."""
        present = self.points[self.present]
        (left, top), (right, bottom) = present.min(axis=0).tolist(), present.max(axis=0).tolist()
        return left, top, right, bottom

    def rounded(self) -> Iterator[tuple[str, list[float], int, float | None]]:
        """Name, position, visibility and confidence of each point that is present, rounded for files."""
        for k in np.flatnonzero(self.present):
            confidence = None if self.confidence is None else round(float(self.confidence[k]), 4)
            yield self.names[k], self.points[k].round(2).tolist(), int(self.visibility[k]), confidence


@dataclass(frozen=True)
class Region:
    """The mask (H, W) bool of an instance, and its encoding in formats that have several."""

    mask: NDArray[np.bool_]
    encoding: MaskEncoding = MaskEncoding.polygons

    @property
    def box(self) -> Box:
        """The tightest box round the mask, which must not be empty."""
        y, x = (np.flatnonzero(self.mask.any(axis=axis)) for axis in (1, 0))
        return float(x[0]) - 0.5, float(y[0]) - 0.5, float(x[-1]) + 0.5, float(y[-1]) + 0.5


@dataclass(frozen=True)
class Instance:
    """One annotated instance.

    label: its category. number: which of the reference's instances it is, from 1. confidence: in [0, 1], the mean over
    its points or pixels; None if it was marked by hand.
    """

    label: str
    number: int
    shape: Keypoints | Region | Box
    visibility: Visibility = Visibility.seen
    confidence: float | None = None


@dataclass(frozen=True)
class AnnotatedImage:
    """An image as the user names it, its size (height, width) in pixels, and the instances on it."""

    name: str
    size: tuple[int, int]
    instances: Sequence[Instance]

    @property
    def confidence(self) -> float:
        """The mean over its instances; 0 if there are none."""
        return sum(instance.confidence or 0.0 for instance in self.instances) / max(len(self.instances), 1)


@dataclass(frozen=True)
class Target:
    """An image that annotations are transferred to.

    number: its place in the list. stem: the name of its files without suffix, unique in the list.
    """

    image: Path
    number: int
    stem: str


@dataclass(frozen=True)
class Category:
    """A category as COCO has it. skeleton: pairs of keypoints, counted from 1, that a line joins."""

    id: int
    name: str
    keypoints: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class LabelColours:
    """How a label image shows its values. mode: Pillow's. palette: RGB triples in a row, for mode P."""

    mode: str
    palette: tuple[int, ...] = ()


@dataclass(frozen=True)
class Annotations:
    """The instances on one image, and what else is needed to write a file of the same format.

    instances: numbered from 1. categories: COCO's, or one for each label. colours: of a label image.
    """

    instances: Sequence[Instance]
    format: AnnotationFormat
    categories: Sequence[Category]
    colours: LabelColours | None = None


def named_keypoints(names: Sequence[str], points: Points, visibility: Sequence[int] | None = None) -> Keypoints:
    """Keypoints of one instance, by default all seen. points: (K, 2). Raises ValueError if two have the same name."""
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"two points of one object are called {min(twice)!r}")
    seen = [Visibility.seen] * len(names) if visibility is None else visibility
    return Keypoints(tuple(names), points, np.array(seen, dtype=np.int64))


def distinct_names(names: Sequence[str]) -> tuple[str, ...]:
    """The same names; one that came before gets the first free number.

    >>> distinct_names(["eye", "nose", "eye"])
    ('eye', 'nose', 'eye-2')
    """
    taken = set(names)
    found: dict[str, None] = {}
    for name in names:
        unique, number = name, 2
        while unique in found or (unique != name and unique in taken):
            unique, number = f"{name}-{number}", number + 1
        found[unique] = None
    return tuple(found)


def mirror_partners(names: Sequence[str]) -> list[int] | None:
    """For each name the place of that of the other side, else its own; None if no name has one.

    >>> mirror_partners(["left_eye", "nose", "right_eye"]), mirror_partners(["knob", "spout"])
    ([2, 1, 0], None)
    """
    place = {name: number for number, name in enumerate(names)}
    other = [re.sub("left|right", lambda side: _SIDES[side[0].lower()], name, flags=re.IGNORECASE) for name in names]
    folded = {name.casefold(): number for name, number in place.items()}
    partners = [folded.get(name.casefold(), place[own]) for own, name in zip(names, other, strict=True)]
    paired = any(partner != number for number, partner in enumerate(partners))
    return partners if paired and sorted(partners) == list(range(len(names))) else None


def categories_of(instances: Sequence[Instance]) -> list[Category]:
    """A category for each label, in order of appearance, with the names of its instances' keypoints."""
    names: dict[str, dict[str, None]] = {}
    for instance in instances:
        of_label = names.setdefault(instance.label, {})
        if isinstance(instance.shape, Keypoints):
            of_label.update(dict.fromkeys(instance.shape.names))
    return [Category(number, label, tuple(points)) for number, (label, points) in enumerate(names.items(), 1)]
