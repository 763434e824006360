"""Tables in text files, TSV, CSV or JSON lines, read into rows that know their file and line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
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
    none. values: one for each column; a row of a damaged table may have fewer, or more.
    """

    origin: str
    columns: Sequence[str]
    values: Sequence[str]

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
            return position(self.fields.get(column, ""))


def read_table(
    source: Input, wanted: Sequence[str] = (), *, header_optional: bool = False, name: str | None = None
) -> Iterator[Row]:
    """The rows of a file, which messages call ``name``, by default its path; see `parse_table`. Raises InputError."""
    file = read_input(source)
    return parse_table(file.text, name or str(file), wanted, header_optional=header_optional)


def parse_table(text: str, name: str, wanted: Sequence[str] = (), *, header_optional: bool = False) -> Iterator[Row]:
    """The rows of a table whose first line names the columns, separated by tabs if it holds one, else by commas.

    A table whose first line begins with a brace is JSON lines: each line is an object, and names its own columns.

    Args:
        text: the table.
        name: what messages call it.
        wanted: columns that it must have.
        header_optional: the first line may also be data, that is, begin with a number; its columns are then those
            wanted, in this order.

    Raises InputError, naming the line where it can.
    """
    if text.lstrip().startswith("{"):
        yield from _json_rows(text, name, wanted)
        return
    lines = split_rows(text, name, "\t" if "\t" in text.lstrip().partition("\n")[0] else ",")
    head = next(lines, None)
    columns = [value.strip() for value in head.values] if head else []
    if head and header_optional and _is_number(columns[0]):
        yield Row(head.origin, wanted, columns)
        columns = list(wanted)
    elif head is None and header_optional:
        return
    lacking = [column for column in wanted if column not in columns]
    if lacking or not columns:
        names = f" {', '.join(wanted)}; '{lacking[0]}' is not there" if lacking else ""
        raise InputError(f"{name}: its first line should name the columns{names}")
    for row in lines:
        yield Row(row.origin, columns, [value.strip() for value in row.values])


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
