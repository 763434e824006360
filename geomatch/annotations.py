"""What people mark on an image: keypoints, masks and boxes of things, in one frame whatever the file they came from.

Positions are (x, y) in pixels of the image, pixel centres at integers; boxes are (left, top, right, bottom), their
sides between pixels, so that a box round a whole image of W x H runs from -1/2 to W - 1/2 and H - 1/2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geomatch.options import AnnotationFormat, MaskEncoding

Points = NDArray[np.float64]
Box = tuple[float, float, float, float]


class Visibility(IntEnum):
    """COCO's: not there, there but a guess (hidden, or not matched validly), or seen."""

    absent = 0
    guessed = 1
    seen = 2


@dataclass(frozen=True)
class Keypoints:
    """Named points of one thing, in an order of its kind's own.

    points: (K, 2). visibility: (K,) of `Visibility`; what stands for a point that is absent means nothing.
    confidence: (K,) in [0, 1], None for points marked by hand.
    """

    names: tuple[str, ...]
    points: Points
    visibility: NDArray[np.int64]
    confidence: NDArray[np.float64] | None = None

    @property
    def present(self) -> NDArray[np.bool_]:
        return self.visibility > Visibility.absent


@dataclass(frozen=True)
class Region:
    """The pixels (H, W) bool of an image that are a thing's, and how files that know several ways write them."""

    mask: NDArray[np.bool_]
    encoding: MaskEncoding = MaskEncoding.polygons

    @property
    def box(self) -> Box:
        """The tightest box round a region that is not empty."""
        y, x = (np.flatnonzero(self.mask.any(axis=axis)) for axis in (1, 0))
        return float(x[0]) - 0.5, float(y[0]) - 0.5, float(x[-1]) + 0.5, float(y[-1]) + 0.5


@dataclass(frozen=True)
class Thing:
    """One annotated thing.

    label: its kind. number: which of the reference's things it is, from 1. confidence: in [0, 1], the mean over its
    points or pixels; None if it was marked by hand.
    """

    label: str
    number: int
    shape: Keypoints | Region | Box
    visibility: Visibility = Visibility.seen
    confidence: float | None = None


@dataclass(frozen=True)
class AnnotatedImage:
    """An image, named as the user names it, its size (height, width) in pixels, and what is marked on it."""

    name: str
    size: tuple[int, int]
    things: Sequence[Thing]

    @property
    def confidence(self) -> float:
        """The mean over its things; 0 without any."""
        return sum(thing.confidence or 0.0 for thing in self.things) / max(len(self.things), 1)


@dataclass(frozen=True)
class Target:
    """An image that marks are carried to. number: its place in the list. stem: what files made of it are called, before
    their suffix, like no other's of the list."""

    image: Path
    number: int
    stem: str


@dataclass(frozen=True)
class Category:
    """A kind of things as COCO knows it. skeleton: pairs of keypoints, counted from 1, that a line joins."""

    id: int
    name: str
    keypoints: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class LabelColours:
    """How a label image shows its values. mode: Pillow's. palette: RGB triples one after another, for mode P."""

    mode: str
    palette: tuple[int, ...] = ()


@dataclass(frozen=True)
class Annotations:
    """What a file says of one image, and what another file of its format has to be like.

    things: numbered from 1. categories: of COCO, or of each label there is. colours: of a label image.
    """

    things: Sequence[Thing]
    format: AnnotationFormat
    categories: Sequence[Category]
    colours: LabelColours | None = None


def named_keypoints(names: Sequence[str], points: Points, visibility: Sequence[int] | None = None) -> Keypoints:
    """Points (K, 2) of one thing marked by hand, seen unless told otherwise. Raises ValueError for a name's second."""
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"two points of one thing are called {min(twice)!r}")
    seen = [Visibility.seen] * len(names) if visibility is None else visibility
    return Keypoints(tuple(names), points, np.array(seen, dtype=np.int64))


def categories_of(things: Sequence[Thing]) -> list[Category]:
    """A category for each label, in order of appearance, with all names that its things' points have."""
    names: dict[str, dict[str, None]] = {}
    for thing in things:
        of_label = names.setdefault(thing.label, {})
        if isinstance(thing.shape, Keypoints):
            of_label.update(dict.fromkeys(thing.shape.names))
    return [Category(number, label, tuple(points)) for number, (label, points) in enumerate(names.items(), 1)]
