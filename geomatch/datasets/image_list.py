"""Images with their labels, a million of them in little memory, and selections of them by label and name."""

from __future__ import annotations

import io
import math
import os
import time
import zlib
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import index as whole
from pathlib import Path, PurePath
from typing import IO, Any, overload

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from geomatch.annotations import Box
from geomatch.errors import InputError, did_you_mean
from geomatch.io.images import decode_image
from geomatch.io.parsing import check_stated_size

BACKGROUND = "background"
_ALONE = -1  # the length of an image that is a file of its own
_BLOCK = 4096  # rows that are turned into Python's objects at a time
_SETTLED = 2_000_000_000  # nanoseconds without a change, after which a time of change tells two states apart


@dataclass(frozen=True)
class LabelledImage:
    """Where an image's bytes are stored, and which classes it shows.

    offset, length: the range of bytes in the file ``path``; a ``length`` of None reads to the end of the file.
    crop: the part to load, (left, top, right, bottom) in pixels of the upright image, pixel centres at integers; it may
    extend beyond the image. None loads all of it.
    stated: the (height, width) that the image has in its annotations, if they say.
    """

    name: str
    path: Path
    labels: tuple[str, ...]
    offset: int = 0
    length: int | None = None
    crop: Box | None = None
    stated: tuple[int, int] | None = None

    def load(self) -> Tensor:
        """The pixels of the image or its crop, (3, H, W) uint8.

        Raises InputError if the image cannot be decoded, is not of the size that is stated, or the crop holds none of
        its pixels.
        """
        pixels = decode_image(self.open(), self.name)
        if self.stated and self.stated != pixels.shape[1:]:
            check_stated_size("its annotations", *self.stated, PurePath(self.name), (pixels.shape[1], pixels.shape[2]))
        return pixels if self.crop is None else _cut(pixels, self.crop, self.name)

    def open(self) -> IO[bytes]:
        """The encoded bytes as an open file."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return io.BytesIO(file.read(-1 if self.length is None else self.length))


@dataclass(frozen=True)
class Columns:
    """What is known of images, one row each.

    places: folders of images, and tar files. text: the names, each with a NUL after it, at ``ends``. place: the row of
    ``places``. offsets, lengths: the bytes of the image in a tar file; a length of -1: a file of its own.
    """

    places: tuple[Path, ...]
    text: bytes
    ends: NDArray[np.int64]
    place: NDArray[np.int32]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def names(self, rows: NDArray[np.int32]) -> list[str]:
        """The names in some rows."""
        starts = np.where(rows > 0, self.ends[rows - 1] + 1, 0).tolist()
        spans = zip(starts, self.ends[rows].tolist(), strict=True)
        return [self.text[start:end].decode(errors="surrogateescape") for start, end in spans]


class ImageList(Sequence[LabelledImage]):
    """An immutable sequence of labelled images, in 60 bytes each and their names. Images are made when asked for.

    sources: what it was listed from, each file or folder with its time of change in nanoseconds and size in bytes;
    empty if that is not to be relied on.
    """

    def __init__(
        self,
        columns: Columns,
        rows: NDArray[np.int32],
        label_sets: Sequence[tuple[str, ...]],
        labels: NDArray[np.int32],
        crops: NDArray[np.float64] | None = None,
        sources: dict[str, tuple[int, int]] | None = None,
    ) -> None:
        """rows: of the columns, in the order of the list. labels: of each image in the list, a row of ``label_sets``.

        crops: (N, 4), NaN where all of an image is meant.
        """
        self.columns, self.rows, self.label_sets, self.labels = columns, rows, tuple(label_sets), labels
        self.crops, self.sources = crops, sources or {}

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> LabelledImage: ...
    @overload
    def __getitem__(self, index: slice) -> ImageList: ...
    def __getitem__(self, index: int | slice) -> LabelledImage | ImageList:
        if isinstance(index, slice):
            return self.take(range(*index.indices(len(self))))
        row, columns = self.rows[whole(index)], self.columns
        (name,) = columns.names(self.rows[[whole(index)]])
        place, length = columns.places[columns.place[row]], int(columns.lengths[row])
        crop = None if self.crops is None or np.isnan(self.crops[index, 0]) else tuple(self.crops[index].tolist())
        labels = self.label_sets[self.labels[index]]
        if length == _ALONE:
            return LabelledImage(name, place / name, labels, crop=crop)
        return LabelledImage(name, place, labels, int(columns.offsets[row]), length, crop)

    def names(self) -> Iterator[str]:
        """The names of all images, in order."""
        for start in range(0, len(self), _BLOCK):
            yield from self.columns.names(self.rows[start : start + _BLOCK])

    def all_labels(self) -> Iterator[tuple[str, ...]]:
        """The labels of all images, in order."""
        for start in range(0, len(self), _BLOCK):
            yield from map(self.label_sets.__getitem__, self.labels[start : start + _BLOCK].tolist())

    def take(
        self,
        rows: Sequence[int],
        labels: Sequence[tuple[str, ...]] | None = None,
        crops: Sequence[Box | None] | None = None,
    ) -> ImageList:
        """The images at some rows, with other labels or crops if they are given."""
        chosen = np.array(rows, np.int64)
        sets: dict[tuple[str, ...], int] = {each: row for row, each in enumerate(self.label_sets)}
        own = self.labels[chosen] if labels is None else _numbered(labels, sets)
        boxes = None if self.crops is None else self.crops[chosen]
        if crops is not None:
            boxes = np.array([(math.nan,) * 4 if crop is None else crop for crop in crops], np.float64).reshape(-1, 4)
        return ImageList(self.columns, self.rows[chosen], tuple(sets), own, boxes)


class ImageListBuilder:
    """Collects images place after place, and orders them by name."""

    def __init__(self) -> None:
        self._places: dict[Path, int] = {}
        self._sets: dict[tuple[str, ...], int] = {}
        self._text = bytearray()
        self._parts: list[tuple[NDArray[Any], ...]] = []
        self._last, self._in_order = "", True
        self._sources: dict[str, tuple[int, int]] | None = {}
        self._began = time.time_ns()

    def __len__(self) -> int:
        return sum(len(part[0]) for part in self._parts)

    def depends_on(self, path: Path) -> None:
        """Remember in which state a file or folder was listed, unless it has changed just now."""
        state = path.stat()
        if state.st_mtime_ns > self._began - _SETTLED:
            self._sources = None
        if self._sources is not None:
            self._sources[str(path.absolute())] = (state.st_mtime_ns, state.st_size)

    def add(
        self,
        place: Path,
        names: Sequence[str],
        labels: Sequence[tuple[str, ...]],
        offsets: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
    ) -> None:
        """Add images of a folder, named by their path below it, or of a tar file, with their range of bytes in it."""
        if not names:
            return
        count = len(names)
        order = np.array(sorted(range(count), key=names.__getitem__))
        ordered = [names[row] for row in order]
        self._in_order &= self._last <= ordered[0]
        self._last = ordered[-1]
        text = "".join(f"{name}\0" for name in ordered).encode(errors="surrogateescape")
        ends = len(self._text) + np.flatnonzero(np.frombuffer(text, np.uint8) == 0)
        self._text += text
        within = np.full(count, self._places.setdefault(place, len(self._places)), np.int32)
        first = np.zeros(count, np.int64) if offsets is None else np.array(offsets, np.int64)[order]
        size = np.full(count, _ALONE, np.int64) if lengths is None else np.array(lengths, np.int64)[order]
        self._parts.append((ends, within, first, size, _numbered(labels, self._sets)[order]))

    def build(self) -> ImageList:
        """All images that were added, ordered by name; those of one name in the order in which they were added."""
        ends, place, offsets, lengths, labels = (np.concatenate(each) for each in zip(*self._parts, strict=True))
        columns = Columns(tuple(self._places), bytes(self._text), ends, place, offsets, lengths)
        rows = np.arange(len(ends), dtype=np.int32)
        if not self._in_order:
            names = columns.names(rows)
            rows = np.array(sorted(range(len(names)), key=names.__getitem__), np.int32)
        return ImageList(columns, rows, tuple(self._sets), labels[rows], sources=self._sources)


def _numbered(labels: Iterable[tuple[str, ...]], sets: dict[tuple[str, ...], int]) -> NDArray[np.int32]:
    """The number of each set of labels in ``sets``, which grows."""
    return np.fromiter((sets.setdefault(each, len(sets)) for each in labels), np.int32)


def take(
    images: Sequence[LabelledImage],
    rows: Sequence[int],
    labels: Sequence[tuple[str, ...]] | None = None,
    crops: Sequence[Box | None] | None = None,
) -> Sequence[LabelledImage]:
    """The images at some rows, with other labels or crops if they are given: see `ImageList.take`."""
    if isinstance(images, ImageList):
        return images.take(rows, labels, crops)
    chosen = [images[row] for row in rows]
    if labels is not None:
        chosen = [replace(image, labels=own) for image, own in zip(chosen, labels, strict=True)]
    if crops is not None:
        chosen = [replace(image, crop=crop) for image, crop in zip(chosen, crops, strict=True)]
    return chosen


def names_of(images: Sequence[LabelledImage]) -> Iterable[str]:
    """The names of images, in order."""
    return images.names() if isinstance(images, ImageList) else (image.name for image in images)


def labels_of(images: Sequence[LabelledImage]) -> Iterable[tuple[str, ...]]:
    """The labels of images, in order."""
    return images.all_labels() if isinstance(images, ImageList) else (image.labels for image in images)


def by_label(images: Iterable[LabelledImage]) -> dict[str, Sequence[LabelledImage]]:
    """The images of each label except the background; an image with several labels is in several lists."""
    images = images if isinstance(images, Sequence) else list(images)
    rows: defaultdict[str, array[int]] = defaultdict(lambda: array("q"))
    for row, labels in enumerate(labels_of(images)):
        for label in labels:
            if label != BACKGROUND:
                rows[label].append(row)
    return {label: take(images, rows[label]) for label in sorted(rows)}


def background_of(images: Sequence[LabelledImage]) -> Sequence[LabelledImage]:
    """The images that are labelled as background."""
    return take(images, array("q", (row for row, labels in enumerate(labels_of(images)) if BACKGROUND in labels)))


def with_labels(
    images: Sequence[LabelledImage], labels: Sequence[str], *, optional: Sequence[str] = ()
) -> Sequence[LabelledImage]:
    """The images that have at least one of the labels, with their other labels removed.

    Raises InputError naming the labels that no image has; the ``optional`` ones may be missing.
    """
    present = by_label(images)
    if missing := [label for label in labels if label not in present]:
        raise InputError(
            f"no photograph is labelled {', '.join(missing)}{did_you_mean(missing[0], present)}: "
            + (f"the labels are {', '.join(present)}" if present else "none has a label")
        )
    wanted = {*labels, *optional}
    shared: dict[tuple[str, ...], tuple[str, ...]] = {}
    rows, kept = array("q"), []
    for row, own in enumerate(labels_of(images)):
        if own not in shared:
            shared[own] = tuple(label for label in own if label in wanted)
        if shared[own]:
            rows.append(row)
            kept.append(shared[own])
    return take(images, rows, kept)


def hold_out(images: Sequence[LabelledImage], share: float) -> tuple[Sequence[LabelledImage], Sequence[LabelledImage]]:
    """Split images into those for training and a ``share`` for measuring, by a checksum of the name."""
    bound = round(share * 2**32)
    parts = array("q"), array("q")
    for row, name in enumerate(names_of(images)):
        parts[zlib.crc32(os.fsencode(name)) < bound].append(row)
    return take(images, parts[0]), take(images, parts[1])


def _cut(pixels: Tensor, crop: Box, name: str) -> Tensor:
    """The pixels whose centres lie in the crop."""
    left, top = (max(0, math.ceil(edge)) for edge in crop[:2])
    right, bottom = (math.floor(edge) + 1 for edge in crop[2:])
    part = pixels[:, top : max(top, bottom), left : max(left, right)]
    if part.numel() == 0:
        raise InputError(f"{name}: crop {crop} holds no pixel of it; was the crop table made from other photographs?")
    return part
