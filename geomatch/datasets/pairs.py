"""Annotated pairs of images: the common form of all benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from geomatch.annotations import Box, Points
from geomatch.errors import InputError
from geomatch.io.flow import FlowField
from geomatch.io.images import load_image

Mask = NDArray[np.bool_]

NO_POINTS: Points = np.zeros((0, 2))

Item = TypeVar("Item")


class NothingToScoreError(InputError):
    """None of a pair's keypoints can be used."""


class PairImage(Protocol):
    """One image of a pair; hashable and small, because its pixels are loaded on request."""

    @property
    def name(self) -> str:
        """The name in results; the same on every machine."""
        ...

    def load(self) -> Tensor:
        """The pixels, (3, H, W) uint8. Raises InputError, naming the file."""
        ...

    def fingerprint(self) -> str:
        """A string that changes when the pixels may have changed."""
        ...


@dataclass(frozen=True)
class ImageFile:
    """An image file of a benchmark. mirrored: flip it left to right, as some lists of pairs require."""

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
class CroppedImage:
    """A part of an image file. box: its first column and row, and those after its last, in pixels from 0."""

    path: Path
    name: str
    box: tuple[int, int, int, int]

    def load(self) -> Tensor:
        left, top, right, bottom = self.box
        return load_image(self.path)[:, top:bottom, left:right].contiguous()

    def fingerprint(self) -> str:
        state = self.path.stat()
        return f"{self.name}:{state.st_size}:{state.st_mtime_ns}:{self.box}"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        left, top, right, bottom = self.box
        return bottom - top, right - left

    def crop(self, masks: Mask) -> Mask:
        """Masks (…, H, W) of the file's image, cropped likewise."""
        left, top, right, bottom = self.box
        return masks[..., top:bottom, left:right]


@dataclass(frozen=True)
class AnnotatedPair:
    """Two images and the annotations of their correspondence.

    category: the class of the pair, as the benchmark names it.
    source_points, target_points: (K, 2) float64, x then y, in pixels of the stored images, pixel centres at integers
        from 0 (1-based files are shifted on reading). Row k of one corresponds to row k of the other.
    source_keypoints, target_keypoints: (M, 2), all keypoints of the image, also those that the other image lacks, if
        the benchmark has them; see `in_source` and `in_target`.
    source_box, target_box: the object's (left, top, right, bottom), if the benchmark has one.
    group: a coarser class that is scored as well ("within" or "across").
    variations: in what the two images differ, and how much ("viewpoint: hard"), if the benchmark says so.
    hidden_points: (H, 2), the source's keypoints that the target does not show, if the benchmark has them.
    geometry_aware: (K,), which keypoints are of a part that the target shows more than once, as a left and a right
        paw; None if the benchmark does not say so.
    origin: where the pair is annotated, for messages ("test_pairs.csv, line 12").
    flow: reads the true flow on the source's grid, if there is one.
    masks: reads the foreground masks of source and target, (H, W) each.
    parts: reads the masks of the parts in both images, (P, H, W) of source and target in the same order.
    annotation_files: the files that flow, masks and parts are read from.
    left_out: for each keypoint that cannot be used, which one it is and why.
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
    annotation_files: tuple[Path, ...] = ()
    left_out: tuple[str, ...] = ()
    source_keypoints: Points | None = None
    target_keypoints: Points | None = None
    variations: tuple[str, ...] = ()
    hidden_points: Points | None = None
    geometry_aware: Mask | None = None

    @property
    def in_source(self) -> Points:
        """All known keypoints of the source: ``source_keypoints`` if there are any, else ``source_points``."""
        return self.source_points if self.source_keypoints is None else self.source_keypoints

    @property
    def in_target(self) -> Points:
        """All known keypoints of the target, as `in_source`."""
        return self.target_points if self.target_keypoints is None else self.target_keypoints


@dataclass(frozen=True)
class PairDataset:
    """A split of a benchmark, read and checked.

    skipped: why each unusable pair was left out.
    of: the number of usable pairs if ``pairs`` is a subset of them, else 0.
    """

    name: str
    split: str
    pairs: Sequence[AnnotatedPair]
    skipped: Sequence[str] = ()
    of: int = 0

    @cached_property
    def keypoints(self) -> int:
        """The number of keypoint pairs."""
        return sum(len(pair.source_points) for pair in self.pairs)

    def limited(self, count: int) -> PairDataset:
        """At most ``count`` pairs: a random one from each of ``count`` equal stretches, which keeps all classes."""
        if count >= len(self.pairs):
            return self
        places = np.arange(count) + np.random.RandomState(0).random_sample(count)
        chosen = [self.pairs[int(place * len(self.pairs) / count)] for place in places]
        return PairDataset(self.name, self.split, chosen, self.skipped, len(self.pairs))


@dataclass
class PairErrors:
    """What happens to what is wrong with single pairs.

    skip: errors of pairs are recorded in ``reasons`` instead of raised. strict: keypoints that cannot be used are
    errors of their pair; otherwise they are left out and recorded in ``keypoints``, or, if none is left, the pair is
    left out and recorded in ``reasons``.
    """

    skip: bool = False
    strict: bool = False
    reasons: list[str] = field(default_factory=list)
    keypoints: list[str] = field(default_factory=list)

    @contextmanager
    def tolerated(self) -> Iterator[None]:
        """Raise or record the InputError of one pair."""
        try:
            yield
        except InputError as error:
            nothing_left = isinstance(error, NothingToScoreError) and not self.strict
            if not (self.skip or nothing_left):
                raise
            self.reasons.append(str(error))

    def read_all(self, items: Iterable[Item], read: Callable[[Item], AnnotatedPair]) -> list[AnnotatedPair]:
        """The pairs that ``read`` makes of the items; the error of each is raised or recorded."""
        pairs = []
        for item in items:
            with self.tolerated():
                pair = read(item)
                if pair.left_out and self.strict:
                    raise InputError(pair.left_out[0])
                self.keypoints += pair.left_out
                pairs.append(pair)
        return pairs


def mirror_points(points: Points, width: int) -> Points:
    """Points (K, 2) of an image ``width`` pixels wide after a left-to-right flip: x' = W - 1 - x."""
    return np.stack((width - 1 - points[:, 0], points[:, 1]), axis=1)


def common_points(origin: str, source: Points, target: Points) -> tuple[Points, Points]:
    """The rows of two arrays (K, 2) that hold a point in both; rows of NaN or of (-1, -1) are padding.

    Raises InputError, naming ``origin``, if the arrays differ in length.
    """
    if len(source) != len(target):
        raise InputError(f"{origin}: {len(source)} source keypoints but {len(target)} target keypoints")
    both = np.concatenate((source, target), axis=1)
    present = np.isfinite(both).all(axis=1) & (source != -1).any(axis=1) & (target != -1).any(axis=1)
    return source[present], target[present]


def check_pair(pair: AnnotatedPair, source_size: tuple[int, int]) -> AnnotatedPair:
    """The pair without the keypoints that cannot be used: unknown ones, and those outside the source image.

    source_size: (height, width). A source point may lie up to a pixel beyond the border, as some do in
    public benchmarks because of rounding and of counting from 1. A target point may lie anywhere: nothing is read
    there, it is only compared with the prediction.

    Raises InputError, naming the pair, if its keypoints differ in number, and NothingToScoreError if none is left.
    """
    if len(pair.source_points) != len(pair.target_points):
        raise InputError(
            f"{pair.origin}: {len(pair.source_points)} source keypoints but {len(pair.target_points)} target keypoints"
        )
    height, width = source_size
    known = np.asarray(np.isfinite(np.hstack((pair.source_points, pair.target_points))).all(axis=1))
    usable = np.asarray(known & _inside(pair.source_points, source_size))
    left_out = []
    for (x, y), there in zip(pair.source_points[~usable], known[~usable], strict=True):
        where = f"lies outside {pair.source.name}, {width}x{height} pixels" if there else "is not known in both images"
        left_out.append(f"{pair.origin}: source keypoint ({x:g}, {y:g}) {where}")
    if len(left_out) == len(pair.source_points):
        raise NothingToScoreError(
            left_out[0] if left_out else f"{pair.origin}: the two images have no keypoint in common"
        )
    return replace(
        pair,
        source_points=pair.source_points[usable],
        target_points=pair.target_points[usable],
        hidden_points=None
        if pair.hidden_points is None
        else pair.hidden_points[_inside(pair.hidden_points, source_size)],
        geometry_aware=None if pair.geometry_aware is None else pair.geometry_aware[usable],
        left_out=tuple(left_out),
    )


def _inside(points: Points, size: tuple[int, int]) -> Mask:
    """Which points (K, 2) are in an image of (height, width), or up to a pixel beyond its border."""
    height, width = size
    return np.asarray(((points >= -1) & (points <= (width, height))).all(axis=1))
