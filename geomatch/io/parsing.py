"""What readers of untrusted files share: limits, checks and one sentence for what is wrong."""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import PurePath

from geomatch.errors import InputError

MAX_BYTES = 1 << 30
"""Of a file; the largest documents of COCO itself fit, and the largest images without compression."""
MAX_POSITION = 1e7
"""Of a coordinate, in pixels: far beyond any image, and harmless."""
MAX_CORNERS = 200_000
"""Of a polygon."""
MAX_MASK_PIXELS = 500_000_000
"""Of all masks of an image together, a byte each."""
_BYTE_ORDER_MARKS = {  # those of UTF-32 first, since they begin with those of UTF-16
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def decode(content: bytes, name: str, errors: str = "strict") -> str:
    """The text in UTF-8 or, where a byte order mark or its zeros say so, in UTF-16 or UTF-32.

    errors: as in `bytes.decode`, for UTF-8 alone. Raises InputError, naming ``name``.
    """
    encoding = next((each for mark, each in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    head = content[:64]
    if encoding == "utf-8" and len(head) > 3:  # Latin letters of UTF-16 have a zero in every other byte
        encoding = "utf-16-le" if not any(head[1::2]) else "utf-16-be" if not any(head[::2]) else encoding
    try:
        return content.decode(encoding, errors if encoding.startswith("utf-8") else "strict")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not text in {encoding.partition('-sig')[0].upper()}; save it as UTF-8") from error


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
    except (TypeError, AttributeError, IndexError) as error:  # Python's words on a value of another type
        raise InputError(f"{origin}: is not of the form it should have ({error})") from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise InputError(f"{origin}: {error}") from error


def position(value: object) -> float:
    """A coordinate, given as a number or a text. Raises ValueError unless it is a number of at most MAX_POSITION."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is not a number")
    try:
        number = float(value if not isinstance(value, str) or "_" not in value else "")  # 6_4 is Python's alone
    except (ValueError, OverflowError):
        raise ValueError(f"{value!r} is not a number") from None
    if not (math.isfinite(number) and abs(number) <= MAX_POSITION):
        raise ValueError(f"{value!r} is not a position in pixels")
    return number


def whole_number(value: object) -> int:
    """The whole number that a value is or spells: 2, 2.0, "2" or "2.0". Raises ValueError if it is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str | float):
        with suppress(ValueError, OverflowError):
            return int(value) if isinstance(value, str) and value.strip().isdecimal() else _integral(float(value))
    raise ValueError(f"{value!r} is not a whole number")


def _integral(number: float) -> int:
    if number != int(number):
        raise ValueError
    return int(number)


def stated_size(height: object, width: object) -> tuple[int, int] | None:
    """The size that a file states; what is not a positive number states nothing."""
    with suppress(ValueError):
        size = whole_number(height), whole_number(width)
        return size if min(size) > 0 else None
    return None


class StatedSizeError(InputError):
    """A file is of an image of another size."""


def check_stated_size(origin: str, height: object, width: object, image: PurePath, size: tuple[int, int]) -> None:
    """Raise StatedSizeError if a file states another size for ``image`` than its ``size`` (height, width)."""
    stated = stated_size(height, width)
    if stated and stated != size:
        raise StatedSizeError(
            f"{origin}: is {stated[1]}x{stated[0]} pixels there, but {image} is {size[1]}x{size[0]} pixels"
        )


def check_masks(count: int, size: tuple[int, int]) -> None:
    """Raise ValueError if ``count`` masks of an image of (height, width) have more than MAX_MASK_PIXELS pixels."""
    if count * size[0] * size[1] > MAX_MASK_PIXELS:
        raise ValueError(
            f"{count} masks of {size[1]}x{size[0]} pixels are too many; take a smaller image or fewer masks"
        )
