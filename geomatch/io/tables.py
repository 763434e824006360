"""Tables in text files, TSV, CSV or JSON lines, read into rows that know their file and line."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from geomatch.errors import InputError
from geomatch.io.inputs import Input, read_input
from geomatch.io.json_text import json_text, parse_json
from geomatch.io.parsing import position, reading


@dataclass(frozen=True)
class Row:
    """A row of a table.

    origin: file and line, for messages ("points.csv, line 12"). columns: names of the table's columns, () if it has
    none. values: one for each column; a row of a damaged table may have fewer, or more. decimal_comma: whether
    coordinates may be written as 12,5.
    """

    origin: str
    columns: Sequence[str]
    values: Sequence[str]
    decimal_comma: bool = False

    @cached_property
    def fields(self) -> dict[str, str]:
        return dict(zip(self.columns, self.values, strict=False))

    def take(self, *columns: str) -> list[str]:
        """The values in these columns. Raises InputError, naming the row and the column it lacks."""
        lacking = [column for column in columns if column not in self.fields]
        if lacking:
            raise InputError(f"{self.origin}: has nothing in the column '{lacking[0]}'")
        return [self.fields[column] for column in columns]

    def first(self, count: int) -> Sequence[str]:
        """The values in the first columns, by position. Raises InputError if there are fewer."""
        if len(self.values) < count:
            raise InputError(f"{self.origin}: has {len(self.values)} columns of {count}")
        return self.values[:count]

    def position(self, column: str) -> float:
        """The coordinate in a column, in pixels. Raises InputError."""
        with reading(f"{self.origin}, column '{column}'"):
            return position(_number(self.fields.get(column, ""), decimal_comma=self.decimal_comma))


def read_table(
    source: Input,
    wanted: Sequence[str] = (),
    *,
    optional: Sequence[str] = (),
    header_optional: bool = False,
    name: str | None = None,
) -> Iterator[Row]:
    """The rows of a file, which messages call ``name``, by default its path; see `parse_table`. Raises InputError."""
    file = read_input(source)
    return parse_table(file.text, name or str(file), wanted, optional=optional, header_optional=header_optional)


def parse_table(
    text: str,
    name: str,
    wanted: Sequence[str] = (),
    *,
    optional: Sequence[str] = (),
    header_optional: bool = False,
) -> Iterator[Row]:
    """The rows of a table whose first line names the columns, separated by tabs if it holds one, else by commas.

    A table whose columns are ``wanted`` may also be separated by semicolons, as spreadsheets write it where the comma
    is the decimal mark; between tabs and semicolons 12,5 is a coordinate. Known columns may have capitals. Lines
    before the first that begin with # are comments, unless they name the columns, as NumPy writes them. A table whose
    first line begins with a brace is JSON lines: each line is an object, and names its own columns.

    Args:
        text: the table.
        name: what messages call it.
        wanted: columns that it must have.
        optional: other columns that are known.
        header_optional: the first line may also be data, that is, begin with a number; its columns are then those
            wanted, in this order.

    Raises InputError, naming the line where it can.
    """
    if text.lstrip().startswith("{"):
        yield from _json_rows(text, name, wanted)
        return
    known = frozenset((*wanted, *optional))
    text = _without_comments(text, wanted) if wanted else text
    delimiter = _delimiter(text, wanted)
    decimal_comma = bool(wanted) and delimiter != ","
    lines = split_rows(_without_separator_line(text), name, delimiter)
    head = next(lines, None)
    columns = [_column(value, known) for value in head.values] if head else []
    if head and header_optional and _is_number(_number(columns[0], decimal_comma=decimal_comma)):
        yield Row(head.origin, wanted, columns, decimal_comma)
        columns = list(wanted)
    elif head is None and header_optional:
        return
    lacking = [column for column in wanted if column not in columns]
    if lacking or not columns:
        names = f" {', '.join(wanted)}; '{lacking[0]}' is not there" if lacking else ""
        raise InputError(f"{name}: its first line should name the columns{names}")
    for row in lines:
        yield Row(row.origin, columns, [value.strip() for value in row.values], decimal_comma)


_SEPARATOR = re.compile(r'\s*"?sep=(?P<mark>[,;\t])"?[ \t]*\r?(?=\n)', re.IGNORECASE)
"""A first line that tells Excel how the columns are separated."""


def _delimiter(text: str, wanted: Sequence[str]) -> str:
    if stated := _SEPARATOR.match(text):
        return stated["mark"]
    first = text.lstrip().partition("\n")[0]
    if "\t" in first:
        return "\t"
    return ";" if wanted and first.count(";") >= max(1, len(wanted) - 1) else ","


def _without_separator_line(text: str) -> str:
    """The text with an empty line instead of Excel's, so that the lines keep their numbers."""
    stated = _SEPARATOR.match(text)
    return text[stated.end() :] if stated else text


def _without_comments(text: str, wanted: Sequence[str]) -> str:
    """The text with empty lines instead of the comments before the first row; a # before columns' names is dropped."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if line.strip() and not line.lstrip().startswith("#"):
            break
        named = {part.strip().lower() for part in re.split(r"[,;\t]", line.lstrip().lstrip("#"))}
        lines[number] = line.lstrip().lstrip("#") if named >= set(wanted) else ""
        if lines[number]:
            break
    return "\n".join(lines)


def _column(written: str, known: Collection[str]) -> str:
    """The name of a column, in small letters if it is a known one."""
    name = written.strip()
    return name.lower() if name.lower() in known else name


def _number(text: str, *, decimal_comma: bool) -> str:
    return text.replace(",", ".") if decimal_comma and text.count(",") == 1 and "." not in text else text


def _json_rows(text: str, name: str, wanted: Sequence[str]) -> Iterator[Row]:
    for row in split_rows(text, name, "\n", quoted=False):
        entry = parse_json(row.values[0], row.origin)
        if not isinstance(entry, dict) or not entry.keys() >= set(wanted):
            raise InputError(f"{row.origin}: is not a JSON object with the entries {', '.join(wanted)}")
        values = (value if isinstance(value, str) else json_text(value) for value in entry.values())
        yield Row(row.origin, list(entry), list(values))


def split_rows(text: str, name: str, delimiter: str, *, quoted: bool = True) -> Iterator[Row]:
    """The lines that are not blank, as rows without names of columns, and each value with the spaces round it.

    quoted: values may stand in double quotes, as in CSV; otherwise a quote is a character like any other.
    Raises InputError, naming the line.
    """
    if not quoted:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield Row(f"{name}, line {number}", (), line.rstrip("\r").split(delimiter))
        return
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for values in reader:
            if any(value.strip() for value in values):
                yield Row(f"{name}, line {reader.line_num}", (), values)
    except csv.Error as error:
        kind = "TSV" if delimiter == "\t" else "CSV"
        raise InputError(f"{name}, line {reader.line_num}: not {kind} ({error})") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
