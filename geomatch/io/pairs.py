"""Lists of pairs of images, and of images, as a user writes them: TSV, CSV or JSON lines."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from geomatch.errors import InputError

STDIN = "-"
_SIDES = ("source", "target")

Row = tuple[int, Sequence[str]]
"""A line's number, from 1, and what stands in its columns."""


def read_pairs(path: Path) -> list[tuple[Path, Path]]:
    """The pairs of a list, in its order; ``-`` reads it from stdin.

    A name that ends in .tsv, .csv, .jsonl or .ndjson says what it is. Otherwise a list whose first line begins with a
    brace is JSON lines, one with a tab in that line is TSV, and any other CSV. A first line that names columns
    ``source`` and ``target`` says which they are; without it there are just these two. JSON lines are objects with the
    entries ``source`` and ``target``. In TSV nothing is quoted. Empty lines count for nothing.

    Raises InputError, with the number of the line, if the list cannot be read, is empty or has a line that is no pair.
    """
    text = _read(path)
    rows = list(_READERS[_kind(path, text)](text, _called(path)))
    if rows and set(_SIDES) <= {column.strip().lower() for column in rows[0][1]}:
        header = [column.strip().lower() for column in rows[0][1]]
        columns = [header.index(side) for side in _SIDES]
        pairs = [_pick(row, columns, len(header), path) for row in rows[1:]]
    else:
        pairs = [_pick(row, [0, 1], 2, path) for row in rows]
    if not pairs:
        raise InputError(f"{_called(path)}: holds no pairs; write SOURCE and TARGET, one pair a line")
    return pairs


def read_names(path: Path, *, null: bool = False) -> list[Path]:
    """The files that a list names, one a line, or with ``null`` each ending in NUL; ``-`` reads it from stdin.

    Raises InputError if it names none.
    """
    text = _read(path)
    lines = text.split("\0") if null else text.replace("\r\n", "\n").split("\n")
    names = [_file(line, number, path) for number, line in enumerate(lines, 1) if line]
    if not names:
        raise InputError(f"{_called(path)}: names no images; write one a line")
    return names


def _read(path: Path) -> str:
    try:
        content = sys.stdin.buffer.read() if str(path) == STDIN else path.read_bytes()
    except OSError as error:
        raise InputError(f"{_called(path)}: cannot be read ({error.strerror})") from error
    # File names need not be Unicode: what is not goes through as it is.
    return content.decode("utf-8-sig", errors="surrogateescape")


def _kind(path: Path, text: str) -> str:
    if path.suffix.lower() in _READERS:
        return path.suffix.lower()
    first = text.lstrip().partition("\n")[0]
    return ".jsonl" if first.startswith("{") else ".tsv" if "\t" in first else ".csv"


def _tab_separated(text: str, _: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.rstrip("\r").split("\t")


def _comma_separated(text: str, name: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for columns in reader:
            if any(column.strip() for column in columns):
                yield reader.line_num, columns
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num}: not CSV ({error})") from error


def _json_lines(text: str, name: str) -> Iterator[Row]:
    yield 0, _SIDES
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{name}, line {number}: not JSON ({error})") from error
        if not isinstance(entry, dict) or not all(isinstance(entry.get(side), str) for side in _SIDES):
            raise InputError(f'{name}, line {number}: write a pair as {{"source": "a.jpg", "target": "b.jpg"}}')
        yield number, [entry[side] for side in _SIDES]


_READERS: Mapping[str, Callable[[str, str], Iterator[Row]]] = {
    ".tsv": _tab_separated,
    ".csv": _comma_separated,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
}


def _pick(row: Row, columns: Sequence[int], count: int, path: Path) -> tuple[Path, Path]:
    number, texts = row
    if len(texts) != count:
        held = f"{len(texts)} column{'s' if len(texts) > 1 else ''} instead of {count}"
        raise InputError(f"{_called(path)}, line {number}: {held}; a pair is SOURCE and TARGET, with a tab or a comma")
    source, target = (texts[column] for column in columns)
    if not source or not target:
        raise InputError(f"{_called(path)}, line {number}: {'SOURCE' if not source else 'TARGET'} is empty")
    return _file(source, number, path), _file(target, number, path)


def _file(name: str, number: int, path: Path) -> Path:
    """Raises InputError for what cannot be the name of a file."""
    try:
        valid = b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        valid = False
    if not valid:
        raise InputError(f"{_called(path)}, line {number}: no file can be named {name!r}")
    return Path(name)


def _called(path: Path) -> str:
    return "the list on stdin" if str(path) == STDIN else str(path)
