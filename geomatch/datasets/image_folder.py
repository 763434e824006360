"""Photographs with image labels, to learn from: a folder of images, or tar shards beside a table of labels."""

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

from geomatch.datasets.pairs import Box
from geomatch.datasets.pascal_ilsvrc import is_synset, synset_classes
from geomatch.errors import InputError
from geomatch.io.images import IMAGE_SUFFIXES, decode_image
from geomatch.io.tables import read_table

BACKGROUND = "background"


@dataclass(frozen=True)
class Photograph:
    """Where one photograph's bytes are, and what it shows. ``length`` None: to the end of the file.

    crop: the part of it to show, (left, top, right, bottom) in pixels of the upright photograph, whose pixel centres
    are at integers; it may reach beyond the photograph. None: all of it.
    """

    name: str
    path: Path
    labels: tuple[str, ...]
    offset: int = 0
    length: int | None = None
    crop: Box | None = None

    def load(self) -> Tensor:
        """The pixels, (3, H, W) uint8: those of the crop, if there is one.

        Raises InputError if they cannot be decoded or none of them lies in the crop.
        """
        pixels = decode_image(self.open(), self.name)
        return pixels if self.crop is None else _cut(pixels, self.crop, self.name)

    def open(self) -> IO[bytes]:
        """The encoded bytes."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return io.BytesIO(file.read(-1 if self.length is None else self.length))


@dataclass(frozen=True)
class Reading:
    """Pixels, (3, H, W) uint8 each, of the photographs that could be read, and what was wrong with others, by name."""

    photographs: list[Photograph]
    pixels: list[Tensor]
    damaged: dict[str, InputError]


class PhotographReader:
    """Reads photographs and leaves out those that cannot be decoded, as long as they are few.

    unreadable: the names of those met so far. tolerated: the largest share of ``total`` that may be.
    """

    def __init__(self, total: int, tolerated: float) -> None:
        self.total, self.tolerated = total, tolerated
        self.unreadable: list[str] = []

    def read(self, photographs: Iterable[Photograph], count: int) -> list[Tensor]:
        """The pixels of the first ``count`` that can be read. Raises InputError if too many, or all, cannot."""
        return self.admit(self.attempt(photographs, count))

    def attempt(self, photographs: Iterable[Photograph], count: int) -> Reading:
        """Read until there are ``count``, or too many damaged. Notes nothing, so any thread may call it at any time."""
        reading = Reading([], [], {})
        for photograph in photographs:
            if len(reading.pixels) == count or self._too_many(len(reading.damaged)):
                break
            try:
                reading.pixels.append(photograph.load())
                reading.photographs.append(photograph)
            except InputError as error:
                reading.damaged[photograph.name] = error
        return reading

    def admit(self, reading: Reading) -> list[Tensor]:
        """Note what was damaged, and return the pixels. Raises InputError if it was too many, or all."""
        for name, error in reading.damaged.items():
            if name not in self.unreadable:
                self.unreadable.append(name)
            if self._too_many(len(self.unreadable)):
                raise InputError(
                    f"{len(self.unreadable)} of {self.total} photographs cannot be read, more than the "
                    f"{self.tolerated:.1%} that --max-unreadable allows; the last was {error}"
                ) from error
        if not reading.pixels:
            raise InputError(f"none of the photographs of a batch can be read: {self.unreadable[-1]} was the last")
        return reading.pixels

    def _too_many(self, damaged: int) -> bool:
        return damaged > self.tolerated * self.total


def find_photographs(data: Sequence[Path]) -> list[Photograph]:
    """List the photographs under folders and in tar shards, ordered by name.

    A folder of tar shards brings its ``labels.csv`` (columns ``file`` and ``labels``, space-separated); in a folder
    of images, a photograph's label is the name of the sub-folder it lies in, or where that is one of ILSVRC's synsets
    (n02690373 and the like) the VOC class it belongs to, else the background.

    Raises InputError when there is nothing to read.
    """
    found: list[Photograph] = []
    for place in data:
        if not place.exists():
            raise InputError(f"{place}: no such folder or tar file")
        shards = [place] if place.is_file() else sorted(place.glob("*.tar"))
        if shards:
            labels = _read_labels(label_table(shards[0]))
            for shard in shards:
                found += _list_shard(shard, labels)
        else:
            found += _list_folder(place)
    if not found:
        raise InputError(f"no photographs in {', '.join(map(str, data))}: expected images, or .tar shards of them")
    return sorted(found, key=lambda photograph: photograph.name)


def by_label(photographs: Sequence[Photograph]) -> dict[str, list[Photograph]]:
    """Photographs of each label, the background left out; one with several labels is in each of their lists."""
    groups: defaultdict[str, list[Photograph]] = defaultdict(list)
    for photograph in photographs:
        for label in photograph.labels:
            if label != BACKGROUND:
                groups[label].append(photograph)
    return dict(sorted(groups.items()))


def with_labels(photographs: Sequence[Photograph], labels: Sequence[str]) -> list[Photograph]:
    """Those of the photographs that have one of the labels, without their other labels.

    Raises InputError naming labels that no photograph has.
    """
    present = by_label(photographs)
    if missing := [label for label in labels if label not in present]:
        raise InputError(
            f"no photograph is labelled {', '.join(missing)}: "
            + (f"the labels are {', '.join(present)}" if present else "none has a label")
        )
    kept = ((photograph, tuple(label for label in photograph.labels if label in labels)) for photograph in photographs)
    return [replace(photograph, labels=found) for photograph, found in kept if found]


def hold_out(photographs: Sequence[Photograph], share: float) -> tuple[list[Photograph], list[Photograph]]:
    """Photographs to learn from, and a share of them to measure on: always the same ones, by a checksum of the name."""
    bound = round(share * 2**32)
    held = [zlib.crc32(os.fsencode(photograph.name)) < bound for photograph in photographs]
    return (
        [photograph for photograph, out in zip(photographs, held, strict=True) if not out],
        [photograph for photograph, out in zip(photographs, held, strict=True) if out],
    )


def label_table(shard: Path) -> Path:
    """Where the labels of a tar shard's photographs are, if they have any."""
    return shard.parent / "labels.csv"


def _cut(pixels: Tensor, crop: Box, name: str) -> Tensor:
    """The pixels whose centres lie in the crop."""
    left, top = (max(0, math.ceil(edge)) for edge in crop[:2])
    right, bottom = (math.floor(edge) + 1 for edge in crop[2:])
    part = pixels[:, top : max(top, bottom), left : max(left, right)]
    if part.numel() == 0:
        raise InputError(
            f"{name}: its crop {crop} holds no pixel of it; was the crop table made from other photographs?"
        )
    return part


def _read_labels(table: Path) -> dict[str, tuple[str, ...]]:
    if not table.is_file():
        return {}
    rows = (row.take("file", "labels") for row in read_table(table, ("file", "labels")))
    return {file: tuple(labels.split()) for file, labels in rows}


def _list_shard(shard: Path, labels: dict[str, tuple[str, ...]]) -> list[Photograph]:
    try:
        with tarfile.open(shard, "r:") as archive:
            return [
                Photograph(member.name, shard, labels.get(member.name, ()), member.offset_data, member.size)
                for member in archive
                if member.isfile() and Path(member.name).suffix.lower() in IMAGE_SUFFIXES
            ]
    except (tarfile.TarError, OSError) as error:
        raise InputError(f"{shard}: cannot be read as an uncompressed tar file ({error})") from error


def _label_of(folder_name: str) -> tuple[str, ...]:
    return (synset_classes().get(folder_name, BACKGROUND) if is_synset(folder_name) else folder_name,)


def _list_folder(folder: Path) -> list[Photograph]:
    return [
        Photograph(
            name=str(path.relative_to(folder)),
            path=path,
            labels=_label_of(path.parent.name) if path.parent != folder else (),
        )
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    ]
