"""The definition of a benchmark, and functions shared by the readers of all benchmarks."""

from __future__ import annotations

import shlex
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geomatch.datasets.pairs import AnnotatedPair, ImageFile, PairErrors
from geomatch.errors import InputError
from geomatch.io.formats.mat import read_variables
from geomatch.io.inputs import read_input
from geomatch.io.names import find_below, name_parts

NAMED_AT_MOST = 8


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's official download and how to read it.

    home, archives: the web page, and the files to download from it; without a page, ``archives`` are your own files.
    splits: lists the splits present in a folder; empty if the folder is not the benchmark's.
    reader: reads a split with `PairErrors.read_all`; raises InputError if the split as a whole cannot be read.
    known_splits: the splits that the benchmark was published with.
    folders: other names of the benchmark's folder.
    counts: the published number of pairs of each split.
    counted: whether ``counts`` holds for a split of a folder, see `published`.
    """

    name: str
    about: str
    home: str
    archives: str
    splits: Callable[[Path], Sequence[str]]
    reader: Callable[[Path, str, PairErrors], list[AnnotatedPair]]
    known_splits: tuple[str, ...] = ("test",)
    folders: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    counted: Callable[[Path, str], bool] = lambda _root, _split: True

    def load(self, root: Path, split: str, errors: PairErrors) -> list[AnnotatedPair]:
        """Read a split. Raises InputError for an unknown split, or if the split as a whole cannot be read."""
        if split not in self.known_splits:
            raise InputError(f"{self.name} has no split '{split}'; choose from {', '.join(self.known_splits)}")
        return self.reader(root, split, errors)

    def published(self, root: Path, split: str) -> int | None:
        """The published number of pairs of a split, None if it is unknown for what lies in the folder."""
        return self.counts.get(split) if self.counted(root, split) else None

    def missing(self, paths: Sequence[Path]) -> InputError:
        """The error that names the missing files and where to download them."""
        named = ", ".join(map(str, paths[:NAMED_AT_MOST]))
        more = f" and {len(paths) - NAMED_AT_MOST} more" if len(paths) > NAMED_AT_MOST else ""
        archive = next(filter(None, map(unpacking, _files_near(paths[0]))), None)
        return InputError(f"{self.name} needs {named}{more}; {archive or self.instruction}")

    @property
    def instruction(self) -> str:
        """How to get the files, for error messages."""
        return f"download {self.archives} from {self.home} and unpack it there" if self.home else f"use {self.archives}"


def unpacking(file: Path) -> str | None:
    """Which command unpacks an archive into its own folder, or that it is damaged; None for what is not an archive."""
    name, quoted, folder = file.name.lower(), shlex.quote(str(file)), shlex.quote(str(file.parent))
    if not name.endswith((".zip", ".tar", ".tar.gz", ".tgz")):
        return None
    with suppress(OSError):
        if name.endswith(".zip") and zipfile.is_zipfile(file):
            return f"{file} is still packed: run `unzip {quoted} -d {folder}`"
        if not name.endswith(".zip") and tarfile.is_tarfile(file):
            return f"{file} is still packed: run `tar -xf {quoted} -C {folder}`"
    return f"{file} is damaged, or half of a download: download it again and unpack it"


def _files_near(missing: Path) -> list[Path]:
    """The files, by name, of the nearest folder above ``missing`` that exists."""
    with suppress(OSError):
        folder = next(parent for parent in missing.parents if parent.is_dir())
        return sorted(file for file in folder.iterdir() if file.is_file())
    return []


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of the image that `load_image` returns, read from the file's header. Raises InputError."""
    try:
        with path.open("rb") as file:
            return encoded_size(file, str(path))
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing, but annotated; unpack the images again") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def encoded_size(file: IO[bytes], name: str) -> tuple[int, int]:
    """`image_size` of an open file; error messages call it ``name``."""
    try:
        with Image.open(file) as image:
            # Pillow already reports the upright size of a TIFF.
            turned = image.format != "TIFF" and image.getexif().get(0x0112) in (5, 6, 7, 8)
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception as error:  # Pillow raises exceptions of many types for damaged files
        raise InputError(f"{name}: damaged or not an image ({error})") from error


def unpacked(root: Path, archive: str) -> Path:
    """The folder ``archive`` in ``root`` if it exists, else ``root``."""
    return root / archive if (root / archive).is_dir() else root


def stored_image(root: Path, name: str, origin: str, *, mirrored: bool = False) -> ImageFile:
    """The image ``name``, a path below ``root`` with any slashes, in any form of Unicode.

    Raises InputError, naming ``origin``, if it does not exist.
    """
    parts = name_parts(name)
    if name.startswith("/") or ".." in parts or not parts or not name.isprintable():
        raise InputError(f"{origin}: the image {name!r} must be a path below {root}")
    path = find_below(root, name)
    try:
        present = path.is_file()
    except OSError:
        present = False
    if not present:
        raise InputError(f"{origin}: {path} is missing; unpack the images again")
    return ImageFile(path, "/".join(parts), mirrored)


def read_mat(path: Path, *names: str) -> list[NDArray[Any]]:
    """The named variables of a Matlab file (versions 5 to 7.2). Raises InputError, naming the file."""
    if not path.exists():
        raise InputError(f"{path}: missing; unpack the annotations again")
    try:
        content = read_variables(read_input(path).content, names)
    except ValueError as error:
        raise InputError(f"{path}: not a readable Matlab file ({error})") from error
    lacking = [name for name in names if name not in content]
    if lacking:
        raise InputError(f"{path}: has no variable '{lacking[0]}'")
    return [content[name] for name in names]


def read_numbers(path: Path, *names: str) -> list[NDArray[np.float64]]:
    """`read_mat` for numeric arrays, as float64 in their stored shapes. Raises InputError."""
    try:
        return [np.asarray(array, dtype=np.float64) for array in read_mat(path, *names)]
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {', '.join(names)} must be numbers ({error})") from error
