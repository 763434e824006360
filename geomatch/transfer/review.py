"""A folder to review transferred annotations in: a page to correct them on, and pictures, the least confident first."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from geomatch.annotations import AnnotatedImage, Target
from geomatch.io.annotations.labelme import path_from
from geomatch.io.annotations.records import annotation_record
from geomatch.io.atomic import check_new_folder, write_atomically
from geomatch.options import Existing
from geomatch.runtime.shard import Shard
from geomatch.transfer.reference import Reference
from geomatch.visualize.review import draw_review
from geomatch.visualize.review_page.page import Entry, review_entry, review_page
from geomatch.visualize.sheet import to_picture

PHOTOGRAPHS = "photographs"
"""Folder beside the page, with the photograph of each image as the page shows it."""
PHOTOGRAPH_SIDE = 1600
"""At most this many pixels along a photograph's longer side. Positions on the page are those of the image itself."""


@dataclass(frozen=True)
class Review:
    """The pictures in a folder, which several threads may add to, and a page to correct the annotations on.

    page: the name of the page's file. labelme_folder: where labelme files are written, whose names for the images are
    relative to it; without one they are expected beside the images.
    """

    folder: Path
    reference: Reference
    page: str = "index.html"
    labelme_folder: Path | None = None
    _entries: dict[str, Entry] = field(default_factory=dict)

    def add(self, target: Target, pixels: Tensor, found: AnnotatedImage) -> Path:
        """Draw what was found on an image (3, H, W) uint8, and show it on the page. The picture's name, which is
        returned, begins with the confidence. Raises InputError if it cannot be written."""
        annotations = self.reference.annotations
        marked = AnnotatedImage(str(self.reference.image.path), self.reference.image.size, annotations.instances)
        note = f"confidence {found.confidence:.2f}" if found.instances else "nothing found"
        picture = draw_review((self.reference.image.pixels, marked), (pixels, found), annotations.categories, note)
        photograph = to_picture(pixels)
        photograph.thumbnail((PHOTOGRAPH_SIDE, PHOTOGRAPH_SIDE))
        name = f"{found.confidence:.3f}-{target.stem}.jpg"
        write_atomically(self._photograph(target), _jpeg(photograph))
        write_atomically(self.folder / name, _jpeg(picture))
        self._enter(name, target, annotation_record(found))
        return self.folder / name

    def keep(self, target: Target, record: Mapping[str, Any]) -> bool:
        """Also show what an earlier run's record has. Returns whether its pictures are still in this folder."""
        picture = Path(record.get("review", ""))
        if picture.parent != self.folder or not picture.is_file() or not self._photograph(target).is_file():
            return False
        self._enter(picture.name, target, record)
        return True

    def close(self) -> None:
        """Write the page. Raises InputError."""
        if self._entries:
            image, marks = self.reference.image, self.reference.annotations
            entries = [entry for _, entry in sorted(self._entries.items())]
            page = review_page(image.pixels, str(image.path), marks, self.reference.kind, entries)
            write_atomically(self.folder / self.page, page.encode(errors="replace"))

    def _photograph(self, target: Target) -> Path:
        return self.folder / PHOTOGRAPHS / f"{target.stem}.jpg"

    def _enter(self, picture: str, target: Target, record: Mapping[str, Any]) -> None:
        folder, image = self.labelme_folder, target.image
        self._entries[picture] = review_entry(
            record,
            self.reference.annotations,
            number=target.number,
            stem=target.stem,
            path=path_from(folder, image) if folder else image.name,
            picture=f"{PHOTOGRAPHS}/{target.stem}.jpg",
        )


def open_review(
    folder: Path, reference: Reference, share: Shard, existing: Existing, labelme_folder: Path | None = None
) -> Review:
    """The pictures of this process's targets, each process with a page of its own.

    Raises InputError, before any work, if the folder cannot be made, or is not empty and not to be changed.
    """
    page = "index.html" if share.count == 1 else f"index-{share.number + 1}-of-{share.count}.html"
    check_new_folder(folder, overwrite=existing is not Existing.refused or share.count > 1)
    return Review(folder, reference, page, labelme_folder)


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
