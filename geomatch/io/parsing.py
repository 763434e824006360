"""What readers of untrusted files share: limits, checks and one sentence for what is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geomatch.errors import InputError

MAX_BYTES = 512 << 20
"""Of a file; the largest documents of COCO itself fit."""
MAX_POSITION = 1e7
"""Of a coordinate, in pixels: far beyond any image, and harmless."""
MAX_CORNERS = 200_000
"""Of a polygon."""
MAX_MASK_PIXELS = 500_000_000
"""Of all masks of an image together, a byte each."""


def read_bytes(path: Path) -> bytes:
    """The content of a file. Raises InputError if it is missing, a folder, unreadable or larger than MAX_BYTES."""
    with opening(path), path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES >> 20} MiB; leave only this image's annotations in it")
    return content


def read_text(path: Path) -> str:
    """The content of a file in UTF-8. Raises InputError."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8") from error


@contextmanager
def opening(name: object) -> Iterator[None]:
    """Turn what opening and reading a file raise into an InputError that names it."""
    try:
        yield
    except ValueError as error:  # it has a NUL in it, or surrogates
        raise InputError(f"{str(name)!r}: no file can have such a name") from error
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{name}: is a folder; give a file") from error
    except PermissionError as error:
        raise InputError(f"{name}: not readable; check its permissions") from error
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror})") from error


@contextmanager
def reading(origin: str) -> Iterator[None]:
    """Turn what a file's fields of the wrong type or value raise into an InputError that begins with ``origin``."""
    try:
        yield
    except KeyError as error:
        raise InputError(f"{origin}: lacks {error}") from error
    except (ValueError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise InputError(f"{origin}: {error}") from error


def position(value: object) -> float:
    """A coordinate, given as a number or a text. Raises ValueError unless it is a number of at most MAX_POSITION."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is not a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{value!r} is not a number") from None
    if not (math.isfinite(number) and abs(number) <= MAX_POSITION):
        raise ValueError(f"{value!r} is not a position in pixels")
    return number


def whole_number(value: object) -> int:
    """The same value, if it is a whole number. Raises ValueError if it is not."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} is not a whole number")
    return value


def check_masks(count: int, size: tuple[int, int]) -> None:
    """Raise ValueError if ``count`` masks of an image of (height, width) have more than MAX_MASK_PIXELS pixels."""
    if count * size[0] * size[1] > MAX_MASK_PIXELS:
        raise ValueError(
            f"{count} masks of {size[1]}x{size[0]} pixels are too many; take a smaller image or fewer masks"
        )
