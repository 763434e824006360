"""Records how each file of a folder was made, so that a stopped run can be resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geomatch.batch.match_record import Record
from geomatch.errors import InputError
from geomatch.io.atomic import clear_unfinished, remove_output, write_atomically
from geomatch.io.images import InputImage
from geomatch.io.json_text import json_text, read_json_object
from geomatch.options import Existing

FOLDER = ".geomatch"
"""Hidden folder beside the files, with an entry for each."""


@dataclass(frozen=True)
class Manifest:
    """An entry for each file of a folder: its image, its origin and its record.

    origin: everything else that affects a file's content. existing: what to do about a file that exists.

    A file is entered before it is written; a file without an entry is not geomatch's. The content of files is not
    checked, since a user may have corrected it.
    """

    origin: Mapping[str, Any]
    existing: Existing

    def clear_unfinished(self, folder: Path) -> None:
        """Remove what killed processes have left among the entries of a folder's files."""
        clear_unfinished(folder / FOLDER)

    def find(self, file: Path, image: Path, sha256: str) -> Record | None:
        """The record of a file that exists, if it is of this image (its path and SHA-256) and this origin."""
        entry = read_json_object(_entry(file))
        origin = json.loads(json_text(self.origin))  # as it is read again: tuples are lists
        same = entry.get("image") == [str(image), sha256] and entry.get("origin") == origin and file.exists()
        record = entry.get("told")
        return dict(record) if same and isinstance(record, dict) else None

    def check(self, file: Path, image: Path) -> None:
        """Raise InputError if a file must not be written: it is the image itself, or exists and is not to change."""
        if not file.exists():
            return
        if image.exists() and file.samefile(image):
            raise InputError(f"{file}: is the image itself and would be written over; give another folder with -o")
        if self.existing is not Existing.replaced:
            raise InputError(
                f"{file}: exists already, but was not made from this image, these marks and settings; "
                "move it away, or do all again with --overwrite"
            )

    def enter(self, file: Path, image: InputImage, record: Record) -> None:
        """Enter a file that is about to be written. Raises InputError.

        A file that exists is deleted first. Otherwise it would be taken for the new one if the run stopped here.
        """
        remove_output(file)
        entry = {"image": [str(image.path), image.sha256], "origin": self.origin, "told": record}
        write_atomically(_entry(file), json_text(entry).encode() + b"\n")


def _entry(file: Path) -> Path:
    return file.parent / FOLDER / f"{file.name}.json"
