"""What a folder holds: its images, and a note of what else is there."""

from __future__ import annotations

import os
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
        own = name.rpartition("/")[2]
        known = f".{own.rpartition('.')[2].lower()}" in image_suffixes()
        if known and not own.startswith("."):  # a million names are asked for
            return True
        if is_clutter(name):
            return False
        path = PurePath(name)
        known = path.suffix.lower() in image_suffixes()
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


def walk_images(folder: Path, passed: PassedOver) -> Iterator[tuple[str, list[str]]]:
    """The images below a folder: for each folder its path from there, "" for itself, and its images' names, sorted.

    Links to folders are followed, but not to one that they are in, and under one name not twice to the same.
    passed: counts what else is there.
    """
    seen: set[tuple[str, str]] = set()
    ahead = [("", frozenset[str]())]
    while ahead:
        below, within = ahead.pop()
        place = os.path.join(folder, below)  # noqa: PTH118 (as fast as a million files ask for)
        real = os.path.realpath(place)
        own = os.path.basename(place)  # noqa: PTH119
        if real in within or (real, own) in seen:
            continue
        seen.add((real, own))
        try:
            with os.scandir(place) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:
            passed.counts["folder that cannot be read"] += 1
            continue
        images, folders = _sorted_out(entries, passed)
        yield below, images
        inside = within | {real}
        ahead += [(f"{below}/{name}" if below else name, inside) for name in reversed(folders)]


def _sorted_out(entries: list[os.DirEntry[str]], passed: PassedOver) -> tuple[list[str], list[str]]:
    """The names of the images, and of the folders to walk through, among a folder's entries."""
    images: list[str] = []
    folders: list[str] = []
    for entry in entries:
        kind = _kind(entry)
        if kind == "file":
            if passed.is_image(entry.name):
                images.append(entry.name)
        elif kind != "folder":
            passed.counts[kind] += 1
        elif not is_clutter(entry.name):
            if entry.name.startswith("."):
                passed.counts["hidden folder"] += 1
            else:
                folders.append(entry.name)
    return images, folders


def _kind(entry: os.DirEntry[str]) -> str:
    """What an entry of a folder is: "folder", "file", or why it is neither."""
    try:
        return "file" if entry.is_file() else "folder" if entry.is_dir() else "broken link"
    except OSError:
        return "file that cannot be reached"
