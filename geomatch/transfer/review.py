"""A folder of pictures to check carried annotations by, least sure first."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from geomatch.annotations import AnnotatedImage, Category, Target
from geomatch.io.atomic import check_new_folder, clear_unfinished, write_atomically
from geomatch.visualize.review import draw_review, review_page


@dataclass(frozen=True)
class Review:
    """The pictures so far, which several threads may add to.

    reference: its pixels (3, H, W) uint8 and what is marked on it. page: the name of the file that shows them all.
    """

    folder: Path
    reference: tuple[Tensor, AnnotatedImage]
    categories: Sequence[Category]
    page: str = "index.html"
    _pictures: dict[str, str] = field(default_factory=dict)

    def prepare(self, targets: Sequence[Target], *, shared: bool) -> None:
        """Clear away what was left half-written there. shared: others' pictures may be in the folder.

        Raises InputError, before any work, if the folder cannot be made, or is not empty without being shared.
        """
        check_new_folder(self.folder, overwrite=shared)
        ours = {f"{target.stem}.jpg" for target in targets}  # behind a confidence
        clear_unfinished(self.folder, lambda name: name == self.page or name.partition("-")[2] in ours)

    def add(self, target: Target, pixels: Tensor, carried: AnnotatedImage) -> Path:
        """Draw what was carried to an image (3, H, W) uint8; the file's name begins with how sure that is. Raises
        InputError if it cannot be written."""
        said = _said(carried.confidence, found=bool(carried.things))
        name = f"{carried.confidence:.3f}-{target.stem}.jpg"
        buffer = io.BytesIO()
        draw_review(self.reference, (pixels, carried), self.categories, said).save(buffer, "JPEG", quality=90)
        self.folder.mkdir(exist_ok=True)
        write_atomically(self.folder / name, buffer.getvalue())
        self._pictures[name] = f"{carried.name}: {said}"
        return self.folder / name

    def keep(self, told: Mapping[str, Any]) -> bool:
        """Show the picture that an earlier run told of, too, if it is in this folder still. Returns whether it is."""
        picture = Path(told.get("review", ""))
        if picture.parent != self.folder or not picture.is_file():
            return False
        self._pictures[picture.name] = f"{told['image']}: {_said(told['confidence'], found=bool(told['items']))}"
        return True

    def close(self) -> None:
        """Write the page that shows all pictures. Raises InputError."""
        if self._pictures:
            page = review_page(sorted(self._pictures.items()))
            write_atomically(self.folder / self.page, page.encode(errors="replace"))


def _said(confidence: float, *, found: bool) -> str:
    return f"confidence {confidence:.2f}" if found else "nothing found"
