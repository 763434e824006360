"""A page of many pairs, made of their records as these come."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from geomatch.batch.match_record import Record
from geomatch.io.atomic import write_atomically
from geomatch.result import PICTURES
from geomatch.runtime.parallel_map import Finished
from geomatch.runtime.shard import Shard
from geomatch.visualize.gallery.page import GalleryPair, GalleryPicture, gallery_page

_SHOWN = ("overview.png", "warped.png", *PICTURES)
"""The pictures that stand for a pair; the first that it has."""
_FACTS = ("features", "matcher", "preset")


@dataclass
class Gallery:
    """The page at ``file``: what each pair of a list came to, with links to its files. It loads nothing else.

    Pictures and links are relative to the page, which can be moved together with the folders of the pairs.
    """

    file: Path
    _pairs: list[GalleryPair] = field(default_factory=list)
    _facts: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_share(cls, file: Path, share: Shard) -> Gallery:
        """The page of a process's pairs; if there are several processes, its name says which one it is."""
        part = "" if share.count == 1 else f"-{share.number + 1}-of-{share.count}"
        return cls(file.with_name(f"{file.stem}{part}{file.suffix}"))

    def following(self, finished: Iterable[Finished]) -> Iterator[Finished]:
        """The same pairs, each entered as it comes. The page is written at the end, also if that comes too early.

        Raises InputError if it cannot be written.
        """
        try:
            for each in finished:
                self.enter(each.record)
                yield each
        finally:
            if self._pairs:
                page = gallery_page(self._pairs, self._facts)
                write_atomically(self.file, page.encode(errors="replace"))

    def enter(self, record: Record) -> None:
        """Show a pair by its record, which is that of a match or of a failure."""
        if "error" in record:
            self._pairs.append(GalleryPair(str(record["source"]), str(record["target"]), error=str(record["error"])))
            return
        self._facts = self._facts or {name: str(record[name]) for name in _FACTS}
        folder = Path(record["output"])
        beside = os.path.relpath(folder, self.file.parent)
        names = [*record["files"], "match.json"]
        shown = next((name for name in _SHOWN if name in names), None)
        self._pairs.append(
            GalleryPair(
                source=record["source"]["path"],
                target=record["target"]["path"],
                folder=beside,
                files=names,
                picture=None if shown is None else _picture(folder / shown, f"{beside}/{shown}"),
                confidence=record["mean_confidence"],
                valid_share=record["valid_share"],
                mirrored=record.get("mirrored", False),
            )
        )


def _picture(file: Path, path: str) -> GalleryPicture | None:
    with suppress(OSError), Image.open(file) as picture:
        return GalleryPicture(path, *picture.size)
    return None
