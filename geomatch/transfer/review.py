"""A folder to review transferred annotations in: a page to correct them on, and pictures, the least confident first."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from geomatch.annotations import AnnotatedImage, Annotations, Target
from geomatch.io.annotations.labelme import path_from
from geomatch.io.annotations.records import annotation_record
from geomatch.io.atomic import check_new_folder, write_atomically
from geomatch.io.images import load_image
from geomatch.options import AnnotationKind, Existing
from geomatch.runtime.shard import Shard
from geomatch.transfer.reference import Reference
from geomatch.transfer.references.reference_set import ReferenceSet
from geomatch.visualize.review import draw_review
from geomatch.visualize.review_page.page import Entry, review_entry, review_page, review_reference
from geomatch.visualize.sheet import to_picture

PHOTOGRAPHS = "photographs"
"""Folder beside the page, with the photograph of each image as the page shows it."""
PHOTOGRAPH_SIDE = 1600
"""At most this many pixels along a photograph's longer side. Positions on the page are those of the image itself."""


@dataclass(frozen=True)
class Review:
    """The pictures in a folder, which several threads may add to, and a page to correct the annotations on.

    marks: what is transferred, of one ``kind``. reference: the pixels (3, H, W) uint8 of the annotated image, and what
    is marked on it; of many references, the first. page: the name of the page's file. labelme_folder:
    where labelme files are written, whose names for the images are relative to it; without one they are expected beside
    the images. others: the references, if they are many.
    """

    folder: Path
    marks: Annotations
    kind: AnnotationKind
    reference: tuple[Tensor, AnnotatedImage]
    page: str = "index.html"
    labelme_folder: Path | None = None
    others: Sequence[AnnotatedImage] = ()
    _entries: dict[str, Entry] = field(default_factory=dict)
    _references: dict[str, Entry] = field(default_factory=dict)

    def add(
        self, target: Target, pixels: Tensor, found: AnnotatedImage, reference: AnnotatedImage | None = None
    ) -> Path:
        """Draw what was found on an image (3, H, W) uint8, beside the reference or another one, which is read again,
        and show it on the page.

        The picture's name, which is returned, begins with the confidence. Raises InputError if it cannot be written.
        """
        beside = self._beside(reference)
        note = f"confidence {found.confidence:.2f}" if found.instances else "nothing found"
        picture = draw_review(beside, (pixels, found), self.marks.categories, note)
        photograph = to_picture(pixels)
        photograph.thumbnail((PHOTOGRAPH_SIDE, PHOTOGRAPH_SIDE))
        name = f"{found.confidence:.3f}-{target.stem}.jpg"
        write_atomically(self._photograph(target), _jpeg(photograph))
        write_atomically(self.folder / name, _jpeg(picture))
        self._enter(name, target, annotation_record(found), beside)
        return self.folder / name

    def keep(self, target: Target, record: Mapping[str, Any]) -> bool:
        """Also show what an earlier run's record has. Returns whether its pictures are still in this folder."""
        picture = Path(record.get("review", ""))
        if picture.parent != self.folder or not picture.is_file() or not self._photograph(target).is_file():
            return False
        named = record.get("references", ())[:1]
        beside = next((each for each in self.others if each.name in named), None)
        self._enter(picture.name, target, record, self._beside(beside))
        return True

    def close(self) -> None:
        """Write the page. Raises InputError."""
        if self._entries:
            entries = [entry for _, entry in sorted(self._entries.items())]
            page = review_page(dict(sorted(self._references.items())), self.marks, self.kind, entries)
            write_atomically(self.folder / self.page, page.encode(errors="replace"))

    def _photograph(self, target: Target) -> Path:
        return self.folder / PHOTOGRAPHS / f"{target.stem}.jpg"

    def _beside(self, reference: AnnotatedImage | None) -> tuple[Tensor, AnnotatedImage]:
        return self.reference if reference is None else (load_image(Path(reference.name)), reference)

    def _enter(
        self, picture: str, target: Target, record: Mapping[str, Any], beside: tuple[Tensor, AnnotatedImage]
    ) -> None:
        pixels, reference = beside
        if reference.name not in self._references:
            self._references[reference.name] = review_reference(pixels, reference, self.marks)
        folder, image = self.labelme_folder, target.image
        self._entries[picture] = review_entry(
            record,
            self.marks,
            number=target.number,
            stem=target.stem,
            path=path_from(folder, image) if folder else image.name,
            picture=f"{PHOTOGRAPHS}/{target.stem}.jpg",
            reference=reference.name,
        )


def open_review(
    folder: Path,
    reference: Reference | ReferenceSet,
    share: Shard,
    existing: Existing,
    labelme_folder: Path | None = None,
) -> Review:
    """The pictures of this process's targets, each process with a page of its own.

    Raises InputError, before any work, if the folder cannot be made, or is not empty and not to be changed.
    """
    page = "index.html" if share.count == 1 else f"index-{share.number + 1}-of-{share.count}.html"
    check_new_folder(folder, overwrite=existing is not Existing.refused or share.count > 1)
    others = reference.images if isinstance(reference, ReferenceSet) else ()
    return Review(folder, reference.annotations, reference.kind, reference.drawn(), page, labelme_folder, others)


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
