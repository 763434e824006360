"""JSON, read from files that are not trusted and written so that any file name survives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from geomatch.errors import InputError
from geomatch.io.inputs import Input, read_input


def json_text(value: object, *, indent: int | None = None, ascii_only: bool = False) -> str:
    """A value as JSON that can be encoded in UTF-8, also if it holds file names that are not valid Unicode.

    ascii_only: for a stream of another encoding; other characters are escaped.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def read_json(source: Input) -> Any:
    """The value that a file holds. Raises InputError."""
    file = read_input(source)
    return parse_json(file.text, str(file))


def read_json_object(path: Path) -> dict[str, Any]:
    """The object in a file that geomatch itself wrote; an empty one if the file is missing or damaged."""
    try:
        value = read_json(path)
    except InputError:
        return {}
    return value if isinstance(value, dict) else {}


def parse_json(text: str, origin: str) -> Any:
    """The value that a text holds. Raises InputError, which begins with ``origin``."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{origin}: not JSON ({error})") from error
