"""What a folder holds: its images, and a note of what else is there."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from geomatch.errors import GeomatchWarning, printable
from geomatch.io.images import image_suffixes

_CLUTTER = frozenset({".ds_store", "thumbs.db", "desktop.ini", "__macosx"})


def is_clutter(name: str) -> bool:
    """Whether a system put a file or folder of this name there, as a Mac does with ``._photo.jpg``."""
    own = PurePath(name).name
    return own.startswith("._") or own.casefold() in _CLUTTER


def files_like(folder: Path, pattern: str) -> list[Path]:
    """The files of a folder that match a pattern, sorted, without a system's clutter."""
    return sorted(path for path in folder.glob(pattern) if not is_clutter(path.name))


@dataclass
class PassedOver:
    """What is in a place beside its images: how many files of each suffix, and whatever else cannot be used."""

    place: Path
    counts: Counter[str] = field(default_factory=Counter)

    def is_image(self, name: str) -> bool:
        """Whether a file is an image by its suffix, and not hidden; counts it if it is not."""
        path = PurePath(name)
        if is_clutter(name):
            return False
        known = path.suffix.lower() in image_suffixes()
        if known and not path.name.startswith("."):
            return True
        self.counts[f"hidden {path.suffix}" if known else printable(path.suffix) or "without suffix"] += 1
        return False

    def warn(self) -> None:
        """Say in one GeomatchWarning what was passed over, if anything was."""
        if self.counts:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.counts.items()))
            warnings.warn(f"{self.place}: passed over, not images: {kinds}", GeomatchWarning, stacklevel=2)


def images_in(folder: Path) -> list[Path]:
    """The images in a folder itself, sorted by name, with one note of what else is there. Raises OSError."""
    passed = PassedOver(folder)
    found = [path for path in sorted(folder.iterdir()) if path.is_file() and passed.is_image(path.name)]
    passed.warn()
    return found


def images_below(folder: Path) -> list[Path]:
    """The images in a folder and all folders below, with one note of what else is there.

    Links to folders are followed, but not to one that they are in, and under one name not twice to the same.
    """
    passed = PassedOver(folder)
    found = [path for path in _walk(folder, passed) if passed.is_image(path.name)]
    passed.warn()
    return found


def _kind(path: Path) -> str:
    """What a path is: "folder", "file", or why it is neither."""
    try:
        return "folder" if path.is_dir() else "file" if path.is_file() else "broken link"
    except OSError:
        return "file that cannot be reached"


def _walk(folder: Path, passed: PassedOver) -> Iterator[Path]:
    """The files below a folder, folder after folder."""
    seen: set[tuple[Path, str]] = set()
    ahead = [(folder, frozenset[Path]())]
    while ahead:
        place, within = ahead.pop()
        real = place.resolve()
        if real in within or (real, place.name) in seen:
            continue
        seen.add((real, place.name))
        try:
            entries = sorted(place.iterdir())
        except OSError:
            passed.counts["folder that cannot be read"] += 1
            continue
        for path in entries:
            kind = _kind(path)
            if kind == "folder" and not path.name.startswith(".") and not is_clutter(path.name):
                ahead.append((path, within | {real}))
            elif kind == "folder" and not is_clutter(path.name):
                passed.counts["hidden folder"] += 1
            elif kind == "file":
                yield path
            elif kind != "folder":
                passed.counts[kind] += 1
