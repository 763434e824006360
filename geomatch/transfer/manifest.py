"""What the files of a folder were made of, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geomatch.errors import InputError
from geomatch.io.atomic import write_atomically
from geomatch.io.images import InputImage
from geomatch.io.parsing import json_text
from geomatch.options import Existing

Record = dict[str, Any]

FOLDER = ".geomatch"
"""Beside the files, out of sight: an entry for each."""


@dataclass(frozen=True)
class Manifest:
    """A folder's book: of each file the image it is of, all else that decided it, and what was told of it.

    origin: all else that decides. existing: what becomes of a file that is there when it is to be written.

    A file is entered before it is written, so one without an entry is none of ours. Its content is not looked at: it
    may have been corrected by hand.
    """

    origin: Mapping[str, Any]
    existing: Existing

    def find(self, file: Path, image: Path, sha256: str) -> Record | None:
        """What was told of a file that is there, if it is of this image (its path and SHA-256) and this origin."""
        try:
            entry = json.loads(_entry(file).read_bytes())
            same = entry["image"] == [str(image), sha256] and entry["origin"] == self._origin()
            return dict(entry["told"]) if same and file.exists() else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def check(self, file: Path, image: Path) -> None:
        """Raise InputError if a file must not be written: it is the image itself, or is there and to be left alone."""
        if not file.exists():
            return
        if file.samefile(image):
            raise InputError(f"{file}: is the image itself and would be written over; give another folder with -o")
        if self.existing is not Existing.replaced:
            raise InputError(
                f"{file}: is there already, and not known to be of this image, these marks and settings; "
                "move it away, or do all anew with --overwrite"
            )

    def enter(self, file: Path, image: InputImage, told: Record) -> None:
        """Enter a file that is about to be written. Raises InputError.

        One that is there goes first: stopped in between, it would pass for the new one.
        """
        file.unlink(missing_ok=True)
        entry = {"image": [str(image.path), image.sha256], "origin": self.origin, "told": told}
        _entry(file).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(_entry(file), json_text(entry).encode() + b"\n")

    def _origin(self) -> object:
        return json.loads(json_text(self.origin))  # as it is read again: tuples are lists


def _entry(file: Path) -> Path:
    return file.parent / FOLDER / f"{file.name}.json"
