"""What readers of untrusted text files share: limits, types, and one sentence for what is wrong; and JSON out."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
        raise InputError(f"{path}: no text in UTF-8") from error


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises InputError."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no JSON that can be read ({error})") from error


def json_text(value: object, *, indent: int | None = None) -> str:
    """JSON that can be written in UTF-8, also where it names files whose names are no Unicode."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return text if text.isascii() or _is_unicode(text) else json.dumps(value, indent=indent)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def understood(origin: str) -> Iterator[None]:
    """Turns what reading fields of the wrong kind raises into an InputError that begins with ``origin``."""
    try:
        yield
    except KeyError as error:
        raise InputError(f"{origin}: lacks {error}") from error
    except (ValueError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise InputError(f"{origin}: {error}") from error


def position(value: object) -> float:
    """A coordinate, or its text. Raises ValueError unless it is a number below MAX_POSITION."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is no number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{value!r} is no number") from None
    if not (math.isfinite(number) and abs(number) <= MAX_POSITION):
        raise ValueError(f"{value!r} is no position in pixels")
    return number


def whole_number(value: object) -> int:
    """A whole number that is one already. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} is no whole number")
    return value


def check_masks(count: int, size: tuple[int, int]) -> None:
    """Raise ValueError if so many masks of an image of (height, width) are more than MAX_MASK_PIXELS."""
    if count * size[0] * size[1] > MAX_MASK_PIXELS:
        raise ValueError(
            f"{count} masks of {size[1]}x{size[0]} pixels are too many; take a smaller image or fewer masks"
        )


@dataclass(frozen=True)
class Row:
    """A row of a table. origin: where it stands, for messages ("points.csv, line 12")."""

    origin: str
    fields: dict[str, str]

    def position(self, column: str) -> float:
        """Raises InputError."""
        with understood(f"{self.origin}, column '{column}'"):
            return position(self.fields.get(column, ""))


def parse_table(text: str, name: str, wanted: Sequence[str], *, unnamed: bool = False) -> list[Row]:
    """The rows of a table of commas or tabs whose first line names the columns.

    wanted: columns it must have. unnamed: the first line may also be data; its columns are then the wanted ones in
    order. Raises InputError.
    """
    lines = text.splitlines()
    delimiter = "\t" if lines and "\t" in lines[0] else ","
    try:
        reader = csv.reader(lines, delimiter=delimiter)
        rows = [(reader.line_num, [field.strip() for field in fields]) for fields in reader if any(fields)]
    except csv.Error as error:
        raise InputError(f"{name}: no table of commas or tabs ({error})") from error
    columns = rows[0][1] if rows else []
    if unnamed and columns and _is_number(columns[0]):
        columns = list(wanted)
    else:
        rows = rows[1:]
    lacking = [column for column in wanted if column not in columns]
    if lacking and (rows or columns or not unnamed):
        raise InputError(
            f"{name}: its first line should name the columns {', '.join(wanted)}; '{lacking[0]}' is not there"
        )
    return [Row(f"{name}, line {line}", dict(zip(columns, fields, strict=False))) for line, fields in rows]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
