"""A folder of pictures to check carried annotations by, least sure first."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from geomatch.annotations import AnnotatedImage, Category
from geomatch.io.annotations import DistinctNames
from geomatch.io.atomic import check_new_folder, write_atomically
from geomatch.visualize.review import draw_review, review_page

PAGE = "index.html"


@dataclass
class Album:
    """The pictures so far. reference: its pixels (3, H, W) uint8 and what is marked on it."""

    folder: Path
    reference: tuple[Tensor, AnnotatedImage]
    categories: Sequence[Category]
    _pictures: list[tuple[str, str]] = field(default_factory=list)
    _names: DistinctNames = field(default_factory=DistinctNames)

    @classmethod
    def new(
        cls,
        folder: Path,
        reference: tuple[Tensor, AnnotatedImage],
        categories: Sequence[Category],
        *,
        overwrite: bool,
    ) -> Album:
        """Raises InputError, before any work, if the folder cannot be made, or is not empty without ``overwrite``."""
        check_new_folder(folder, overwrite=overwrite)
        return cls(folder, reference, categories)

    def add(self, pixels: Tensor, carried: AnnotatedImage) -> Path:
        """Draw what was carried to an image (3, H, W) uint8; the file's name begins with how sure that is. Raises
        InputError if it cannot be written."""
        said = f"confidence {carried.confidence:.2f}" if carried.things else "nothing found"
        name = self._names(f"{carried.confidence:.3f}-{Path(carried.name).stem}", ".jpg")
        buffer = io.BytesIO()
        draw_review(self.reference, (pixels, carried), self.categories, said).save(buffer, "JPEG", quality=90)
        self.folder.mkdir(exist_ok=True)
        write_atomically(self.folder / name, buffer.getvalue())
        self._pictures.append((name, f"{carried.name}: {said}"))
        return self.folder / name

    def close(self) -> None:
        """Write the page that shows all pictures. Raises InputError."""
        if self._pictures:
            write_atomically(self.folder / PAGE, review_page(sorted(self._pictures)).encode(errors="replace"))
