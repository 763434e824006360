"""What readers of untrusted files share: limits, checks and one sentence for what is wrong; and the JSON writer."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
    """The content of a file. Raises InputError if it is missing, a folder, not readable or larger than MAX_BYTES."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if len(content) > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES >> 20} MiB; leave only this image's annotations in it")
    return content


def read_text(path: Path) -> str:
    """The content of a file in UTF-8. Raises InputError."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8") from error


def read_json(path: Path) -> Any:
    """The value that a JSON file holds. Raises InputError."""
    return parse_json(read_text(path), str(path))


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file that geomatch itself wrote; an empty one if the file is missing or damaged."""
    try:
        value = read_json(path)
    except InputError:
        return {}
    return value if isinstance(value, dict) else {}


def parse_json(text: str, origin: str) -> Any:
    """The value that a JSON text holds. Raises InputError, which begins with ``origin``."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{origin}: not JSON ({error})") from error


def json_text(value: object, *, indent: int | None = None) -> str:
    """A value as JSON that can be encoded in UTF-8, also if it holds file names that are not valid Unicode."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return text if text.isascii() or _is_unicode(text) else json.dumps(value, indent=indent)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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
    """A coordinate, or its text. Raises ValueError unless it is a number below MAX_POSITION."""
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
    """A whole number that is one already. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} is not a whole number")
    return value


def check_masks(count: int, size: tuple[int, int]) -> None:
    """Raise ValueError if so many masks of an image of (height, width) are more than MAX_MASK_PIXELS."""
    if count * size[0] * size[1] > MAX_MASK_PIXELS:
        raise ValueError(
            f"{count} masks of {size[1]}x{size[0]} pixels are too many; take a smaller image or fewer masks"
        )
