"""Images with image-level labels, for training: a folder of images, or tar shards beside a table of labels."""

from __future__ import annotations

import io
import math
import os
import tarfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from torch import Tensor

from geomatch.annotations import Box
from geomatch.datasets.pascal_ilsvrc import is_synset, synset_classes
from geomatch.errors import InputError, did_you_mean
from geomatch.io.folders import PassedOver, files_like, images_below, is_clutter
from geomatch.io.images import decode_image, image_suffixes
from geomatch.io.names import plain_name
from geomatch.io.tables import read_table

BACKGROUND = "background"


@dataclass(frozen=True)
class LabelledImage:
    """Where an image's bytes are stored, and which classes it shows.

    offset, length: the range of bytes in the file ``path``; a ``length`` of None reads to the end of the file.
    crop: the part to load, (left, top, right, bottom) in pixels of the upright image, pixel centres at integers; it may
    extend beyond the image. None loads all of it.
    """

    name: str
    path: Path
    labels: tuple[str, ...]
    offset: int = 0
    length: int | None = None
    crop: Box | None = None

    def load(self) -> Tensor:
        """The pixels of the image or its crop, (3, H, W) uint8.

        Raises InputError if the image cannot be decoded or the crop holds none of its pixels.
        """
        pixels = decode_image(self.open(), self.name)
        return pixels if self.crop is None else _cut(pixels, self.crop, self.name)

    def open(self) -> IO[bytes]:
        """The encoded bytes as an open file."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return io.BytesIO(file.read(-1 if self.length is None else self.length))


@dataclass(frozen=True)
class ImageBatch:
    """The images that could be read, their pixels, (3, H, W) uint8 each, and the errors of the others by name."""

    images: list[LabelledImage]
    pixels: list[Tensor]
    damaged: dict[str, InputError]


class ImageReader:
    """Reads images and leaves out damaged ones, up to a share ``tolerated`` of ``total``.

    unreadable: the names of the damaged images so far.
    """

    def __init__(self, total: int, tolerated: float) -> None:
        self.total, self.tolerated = total, tolerated
        self.unreadable: list[str] = []

    def read(self, images: Iterable[LabelledImage], count: int) -> list[Tensor]:
        """The pixels of the first ``count`` readable images. Raises InputError if too many, or all, are damaged."""
        return self.admit(self.attempt(images, count))

    def attempt(self, images: Iterable[LabelledImage], count: int) -> ImageBatch:
        """Read until ``count`` images are read or too many are damaged. Thread-safe: it does not change the reader."""
        batch = ImageBatch([], [], {})
        for image in images:
            if len(batch.pixels) == count or self._too_many(len(batch.damaged)):
                break
            try:
                batch.pixels.append(image.load())
                batch.images.append(image)
            except InputError as error:
                batch.damaged[image.name] = error
        return batch

    def admit(self, batch: ImageBatch) -> list[Tensor]:
        """Record the damaged images and return the pixels. Raises InputError if too many, or all, are damaged."""
        for name, error in batch.damaged.items():
            if name not in self.unreadable:
                self.unreadable.append(name)
            if self._too_many(len(self.unreadable)):
                raise InputError(
                    f"{len(self.unreadable)} of {self.total} photographs cannot be read, more than the "
                    f"{self.tolerated:.1%} that --max-unreadable allows; the last: {error}"
                ) from error
        if not batch.pixels:
            raise InputError(f"none of the photographs of a batch can be read; the last: {self.unreadable[-1]}")
        return batch.pixels

    def _too_many(self, damaged: int) -> bool:
        return damaged > self.tolerated * self.total


def find_images(data: Sequence[Path]) -> list[LabelledImage]:
    """List the images in folders and in tar shards, ordered by name.

    A folder of tar shards has a table ``labels.csv`` (columns ``file`` and ``labels``, space-separated). In a folder of
    images, the label is the name of the sub-folder; a sub-folder named after an ILSVRC synset (such as n02690373) gives
    the VOC class that the synset belongs to, or the background. Links to folders are followed.

    Warns, once a folder, of what else is there and passed over. Raises InputError if there is no image.
    """
    found: list[LabelledImage] = []
    for place in data:
        if not place.exists():
            raise InputError(f"{place}: no such folder or tar file")
        if not (place.is_dir() or place.is_file()):
            raise InputError(f"{place}: is neither a folder nor a file; shards are read again and again, and no pipe")
        shards = shards_of(place)
        if shards:
            passed = PassedOver(place)
            labels = _read_labels(label_table(shards[0]))
            for shard in shards:
                found += _list_shard(shard, labels, passed)
            beside = () if place.is_file() else place.iterdir()
            if images := sum(path.suffix.lower() in image_suffixes() and not is_clutter(path.name) for path in beside):
                passed.counts["beside the .tar files"] += images
            passed.warn()
        else:
            found += _list_folder(place)
    if not found:
        raise InputError(f"no photographs in {', '.join(map(str, data))}: expected images, or .tar shards of them")
    return sorted(found, key=lambda image: image.name)


def by_label(images: Iterable[LabelledImage]) -> dict[str, list[LabelledImage]]:
    """The images of each label except the background; an image with several labels is in several lists."""
    groups: defaultdict[str, list[LabelledImage]] = defaultdict(list)
    for image in images:
        for label in image.labels:
            if label != BACKGROUND:
                groups[label].append(image)
    return dict(sorted(groups.items()))


def with_labels(
    images: Sequence[LabelledImage], labels: Sequence[str], *, optional: Sequence[str] = ()
) -> list[LabelledImage]:
    """The images that have at least one of the labels, with their other labels removed.

    Raises InputError naming the labels that no image has; the ``optional`` ones may be missing.
    """
    present = by_label(images)
    if missing := [label for label in labels if label not in present]:
        raise InputError(
            f"no photograph is labelled {', '.join(missing)}{did_you_mean(missing[0], present)}: "
            + (f"the labels are {', '.join(present)}" if present else "none has a label")
        )
    selected = ((image, tuple(label for label in image.labels if label in (*labels, *optional))) for image in images)
    return [replace(image, labels=shared) for image, shared in selected if shared]


def hold_out(images: Sequence[LabelledImage], share: float) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Split images into those for training and a ``share`` for measuring, by a checksum of the name."""
    bound = round(share * 2**32)
    parts: tuple[list[LabelledImage], list[LabelledImage]] = ([], [])
    for image in images:
        parts[zlib.crc32(os.fsencode(image.name)) < bound].append(image)
    return parts


def shards_of(place: Path) -> list[Path]:
    """The tar shards that are meant by a tar file or by a folder of them; none in a folder of images."""
    return [place] if place.is_file() else files_like(place, "*.tar")


def label_table(shard: Path) -> Path:
    """The path of the table with the labels of a tar shard's images; it need not exist."""
    return shard.parent / "labels.csv"


def _cut(pixels: Tensor, crop: Box, name: str) -> Tensor:
    """The pixels whose centres lie in the crop."""
    left, top = (max(0, math.ceil(edge)) for edge in crop[:2])
    right, bottom = (math.floor(edge) + 1 for edge in crop[2:])
    part = pixels[:, top : max(top, bottom), left : max(left, right)]
    if part.numel() == 0:
        raise InputError(f"{name}: crop {crop} holds no pixel of it; was the crop table made from other photographs?")
    return part


def _read_labels(table: Path) -> dict[str, tuple[str, ...]]:
    if not table.is_file():
        return {}
    rows = (row.take("file", "labels") for row in read_table(table, ("file", "labels")))
    return {plain_name(file): tuple(labels.split()) for file, labels in rows}


def _list_shard(shard: Path, labels: dict[str, tuple[str, ...]], passed: PassedOver) -> list[LabelledImage]:
    try:
        with tarfile.open(shard, "r:") as archive:
            members = [member for member in archive if member.isfile() and passed.is_image(member.name)]
    except (tarfile.TarError, OSError) as error:
        raise InputError(f"{shard}: cannot be read as an uncompressed tar file ({error})") from error
    named = [(plain_name(member.name), member) for member in members]
    return [LabelledImage(name, shard, labels.get(name, ()), member.offset_data, member.size) for name, member in named]


def _label_of(folder_name: str) -> tuple[str, ...]:
    return (synset_classes().get(folder_name, BACKGROUND) if is_synset(folder_name) else folder_name,)


def _list_folder(folder: Path) -> list[LabelledImage]:
    return [
        LabelledImage(
            name=str(path.relative_to(folder)),
            path=path,
            labels=_label_of(path.parent.name) if path.parent != folder else (),
        )
        for path in images_below(folder)
    ]
