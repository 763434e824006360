"""What a benchmark is to geomatch: where it comes from, how its folder is recognised and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geomatch.datasets.pairs import AnnotatedPair, BadRows, ImageFile
from geomatch.errors import InputError
from geomatch.io.formats.mat import read_variables
from geomatch.io.parsing import read_bytes

NAMED_AT_MOST = 8


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's official download.

    archives: the files to fetch from ``home``. folders: names its own folder goes by, its geomatch name aside.
    splits: the splits present in a folder, () if it is not the benchmark's. load: reads a split; raises InputError for
    what is missing, and reads each pair within ``BadRows.tolerated``. counts: pairs of each split as published.
    """

    name: str
    about: str
    home: str
    archives: str
    splits: Callable[[Path], Sequence[str]]
    load: Callable[[Path, str, BadRows], list[AnnotatedPair]]
    folders: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)

    def missing(self, paths: Sequence[Path]) -> InputError:
        """The error that names, file by file, what is not there, where it comes from and where it belongs."""
        named = ", ".join(map(str, paths[:NAMED_AT_MOST]))
        more = f" and {len(paths) - NAMED_AT_MOST} more" if len(paths) > NAMED_AT_MOST else ""
        return InputError(f"{self.name} needs {named}{more}; take {self.archives} from {self.home} and unpack it there")


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image file as `load_image` gives it, from its header alone. Raises InputError."""
    try:
        with path.open("rb") as file:
            return encoded_size(file, str(path))
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing, though it is annotated") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def encoded_size(file: IO[bytes], name: str) -> tuple[int, int]:
    """`image_size` of an open file. ``name`` is for messages."""
    try:
        with Image.open(file) as image:
            # Pillow gives the size of a TIFF upright.
            turned = image.format != "TIFF" and image.getexif().get(0x0112) in (5, 6, 7, 8)
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception as error:  # on a damaged file Pillow raises whatever it stumbles over
        raise InputError(f"{name}: damaged or no image ({error})") from error


def check_split(name: str, split: str, known: Collection[str]) -> None:
    """Raise InputError if the benchmark ``name`` never had such a split."""
    if split not in known:
        raise InputError(f"{name} has no split '{split}': it has {', '.join(known)}")


def unpacked(root: Path, archive: str) -> Path:
    """``root``, or the folder in it that the benchmark's ``archive`` unpacks to, if that is there."""
    return root / archive if (root / archive).is_dir() else root


def stored_image(root: Path, name: str, origin: str, *, mirrored: bool = False) -> ImageFile:
    """The image ``name``, a posix path below ``root``. Raises InputError, naming ``origin``, if it is not there."""
    steps = PurePosixPath(name)
    if steps.is_absolute() or ".." in steps.parts:
        raise InputError(f"{origin}: the image '{name}' should be a path below {root}")
    path = root / steps
    try:
        present = path.is_file()
    except OSError:
        present = False
    if not present:
        raise InputError(f"{origin}: {path} is missing; unpack the images anew")
    return ImageFile(path, steps.as_posix(), mirrored)


def read_mat(path: Path, *names: str) -> list[NDArray[Any]]:
    """The named variables of a Matlab file of versions 5 to 7.2. Raises InputError, naming the file."""
    if not path.exists():
        raise InputError(f"{path}: missing; unpack the annotations anew")
    try:
        content = read_variables(read_bytes(path), names)
    except ValueError as error:
        raise InputError(f"{path}: no Matlab file that can be read ({error})") from error
    lacking = [name for name in names if name not in content]
    if lacking:
        raise InputError(f"{path}: has no '{lacking[0]}'")
    return [content[name] for name in names]


def read_numbers(path: Path, *names: str) -> list[NDArray[np.float64]]:
    """`read_mat` of arrays of numbers, in the shapes they are stored in."""
    try:
        return [np.asarray(array, dtype=np.float64) for array in read_mat(path, *names)]
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {', '.join(names)} should be numbers ({error})") from error
