"""Annotated pairs of images: what every benchmark is read into."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from geomatch.annotations import Box as Box
from geomatch.annotations import Points as Points
from geomatch.errors import InputError
from geomatch.io.flow import FlowField
from geomatch.io.images import load_image

Mask = NDArray[np.bool_]

NO_POINTS: Points = np.zeros((0, 2))


class PairImage(Protocol):
    """One side of a pair. Hashable and small: pixels are made only when asked for."""

    @property
    def name(self) -> str:
        """What results call it; the same on every machine."""
        ...

    def load(self) -> Tensor:
        """The pixels, (3, H, W) uint8. Raises InputError, naming the file."""
        ...

    def fingerprint(self) -> str:
        """Changes when the pixels may have changed."""
        ...


@dataclass(frozen=True)
class ImageFile:
    """An image as a benchmark stores it. ``mirrored``: left and right exchanged, as some lists of pairs ask for."""

    path: Path
    name: str
    mirrored: bool = False

    def load(self) -> Tensor:
        pixels = load_image(self.path)
        return pixels.flip(-1) if self.mirrored else pixels

    def fingerprint(self) -> str:
        state = self.path.stat()
        return f"{self.name}:{state.st_size}:{state.st_mtime_ns}:{self.mirrored}"


@dataclass(frozen=True)
class AnnotatedPair:
    """Two images and what is known of how they correspond.

    source_points, target_points: (K, 2) float64, x then y, in pixels of the images as stored, centres at integers
        from 0 on (1-based files are shifted on reading). Row k of one corresponds to row k of the other.
    source_box, target_box: of the object (left, top, right, bottom), where the benchmark gives one.
    category: what the benchmark calls the pair's class. group: what its classes are further divided into.
    origin: where the pair is annotated, for messages ("test_pairs.csv, row 12").
    flow: reads the true flow on the source's grid, where there is one.
    masks: reads the foreground of source and of target, (H, W) each.
    parts: reads the parts present in both images, (P, H, W) of source and of target, in the same order.
    evidence: the annotation files that flow, masks and parts are read from.
    """

    source: PairImage
    target: PairImage
    category: str
    source_points: Points = field(default_factory=lambda: NO_POINTS)
    target_points: Points = field(default_factory=lambda: NO_POINTS)
    source_box: Box | None = None
    target_box: Box | None = None
    group: str | None = None
    origin: str = ""
    flow: Callable[[], FlowField] | None = None
    masks: Callable[[], tuple[Mask, Mask]] | None = None
    parts: Callable[[], tuple[Mask, Mask]] | None = None
    evidence: tuple[Path, ...] = ()


@dataclass(frozen=True)
class PairDataset:
    """A split of a benchmark, read and checked.

    skipped: why each pair left out was, if that was allowed. of: how many usable pairs there are, if ``pairs`` are only
    some of them; else 0.
    """

    name: str
    split: str
    pairs: Sequence[AnnotatedPair]
    skipped: Sequence[str] = ()
    of: int = 0

    @cached_property
    def keypoints(self) -> int:
        return sum(len(pair.source_points) for pair in self.pairs)

    def limited(self, count: int) -> PairDataset:
        """At most ``count`` pairs, spread over all, so that every class has its share: one drawn from each stretch."""
        if count >= len(self.pairs):
            return self
        places = np.arange(count) + np.random.RandomState(0).random_sample(count)
        chosen = [self.pairs[int(place * len(self.pairs) / count)] for place in places]
        return PairDataset(self.name, self.split, chosen, self.skipped, len(self.pairs))


@dataclass
class BadRows:
    """What to do with annotations that cannot be used: raise the error, or, if ``skip``, note it and go on."""

    skip: bool = False
    reasons: list[str] = field(default_factory=list)

    @contextmanager
    def tolerated(self) -> Iterator[None]:
        """Wrap the reading of one pair; its InputError is raised or noted."""
        try:
            yield
        except InputError as error:
            if not self.skip:
                raise
            self.reasons.append(str(error))


def mirror_points(points: Points, width: int) -> Points:
    """Points (K, 2) of an image ``width`` pixels wide after left and right are exchanged: x' = W - 1 - x."""
    return np.stack((width - 1 - points[:, 0], points[:, 1]), axis=1)


def common_points(origin: str, source: Points, target: Points) -> tuple[Points, Points]:
    """The rows of two lists of points (K, 2) that both images have: NaN, or -1, -1 for padding, is no point.

    Raises InputError, naming ``origin``, if the lists are of different lengths.
    """
    if len(source) != len(target):
        raise InputError(f"{origin}: {len(source)} source keypoints but {len(target)} target keypoints")
    both = np.concatenate((source, target), axis=1)
    present = np.isfinite(both).all(axis=1) & (source != -1).any(axis=1) & (target != -1).any(axis=1)
    return source[present], target[present]


def check_pair(pair: AnnotatedPair, source_size: tuple[int, int], target_size: tuple[int, int]) -> None:
    """Raise InputError, naming the pair, if its keypoints do not match in number, are none, or lie off the images.

    source_size, target_size: (height, width). A point may lie up to a pixel beyond the border, as rounding and
    1-based counting put some in public benchmarks.
    """
    if len(pair.source_points) != len(pair.target_points):
        raise InputError(
            f"{pair.origin}: {len(pair.source_points)} source keypoints but {len(pair.target_points)} target keypoints"
        )
    if len(pair.source_points) == 0:
        raise InputError(f"{pair.origin}: the two images have no keypoint in common")
    for side, image, points, (height, width) in (
        ("source", pair.source, pair.source_points, source_size),
        ("target", pair.target, pair.target_points, target_size),
    ):
        outside = ~((points >= -1) & (points <= np.array([width, height]))).all(axis=1)
        if outside.any():
            x, y = points[outside][0]
            raise InputError(
                f"{pair.origin}: {side} keypoint ({x:g}, {y:g}) lies outside {image.name}, {width}x{height} pixels"
            )
