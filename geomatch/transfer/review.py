"""A folder of pictures to review transferred annotations with, the least confident first."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from geomatch.annotations import AnnotatedImage, Category, Target
from geomatch.io.atomic import check_new_folder, write_atomically
from geomatch.options import Existing
from geomatch.runtime.shard import Shard
from geomatch.transfer.reference import Reference
from geomatch.visualize.review import draw_review, review_page


@dataclass(frozen=True)
class Review:
    """The pictures in a folder, which several threads may add to, and a page that shows them.

    reference: its pixels (3, H, W) uint8 and what is marked on it. page: the name of the page's file.
    """

    folder: Path
    reference: tuple[Tensor, AnnotatedImage]
    categories: Sequence[Category]
    page: str = "index.html"
    _pictures: dict[str, str] = field(default_factory=dict)

    def add(self, target: Target, pixels: Tensor, found: AnnotatedImage) -> Path:
        """Draw what was found on an image (3, H, W) uint8. The file's name, which is returned, begins with the
        confidence. Raises InputError if it cannot be written."""
        note = _note(found.confidence, found=bool(found.instances))
        name = f"{found.confidence:.3f}-{target.stem}.jpg"
        buffer = io.BytesIO()
        draw_review(self.reference, (pixels, found), self.categories, note).save(buffer, "JPEG", quality=90)
        write_atomically(self.folder / name, buffer.getvalue())
        self._pictures[name] = f"{found.name}: {note}"
        return self.folder / name

    def keep(self, record: Mapping[str, Any]) -> bool:
        """Also show the picture that an earlier run's record names. Returns whether it is still in this folder."""
        picture = Path(record.get("review", ""))
        if picture.parent != self.folder or not picture.is_file():
            return False
        note = _note(record["confidence"], found=bool(record["items"]))
        self._pictures[picture.name] = f"{record['image']}: {note}"
        return True

    def close(self) -> None:
        """Write the page that shows all pictures. Raises InputError."""
        if self._pictures:
            page = review_page(sorted(self._pictures.items()), self.reference[1].instances)
            write_atomically(self.folder / self.page, page.encode(errors="replace"))


def open_review(folder: Path, reference: Reference, share: Shard, existing: Existing) -> Review:
    """The pictures of this process's targets, each process with a page of its own.

    Raises InputError, before any work, if the folder cannot be made, or is not empty and not to be changed.
    """
    page = "index.html" if share.count == 1 else f"index-{share.number + 1}-of-{share.count}.html"
    check_new_folder(folder, overwrite=existing is not Existing.refused or share.count > 1)
    drawn = AnnotatedImage(str(reference.image.path), reference.image.size, reference.annotations.instances)
    return Review(folder, (reference.image.pixels, drawn), reference.annotations.categories, page)


def _note(confidence: float, *, found: bool) -> str:
    return f"confidence {confidence:.2f}" if found else "nothing found"
