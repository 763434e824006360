"""Tables in text files, TSV, CSV or JSON lines, read into rows that know their file and line."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
    coordinates may be written as 12,5. bare: the table's first line does not name the columns.
    """

    origin: str
    columns: Sequence[str]
    values: Sequence[str]
    decimal_comma: bool = False
    bare: bool = False

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


@dataclass(frozen=True)
class Layout:
    """The columns of a kind of table.

    Attributes:
        wanted: columns that it must have.
        instead: other sets of columns, one of which does as well; a table that has several is read by the first.
        optional: other columns that are known.
        aliases: what programs call known columns (small letters, "_" for all that is no letter or digit): of several
            it stands for the first that is not there.
        bare: the columns of a table without a line of names, from the values of its first line; None if they cannot be
            told, or if no such table is read.
    """

    wanted: Sequence[str] = ()
    instead: Sequence[Sequence[str]] = ()
    optional: Sequence[str] = ()
    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict)
    bare: Callable[[Sequence[str]], Sequence[str] | None] = lambda _: None

    @cached_property
    def known(self) -> frozenset[str]:
        return frozenset(itertools.chain(self.wanted, *self.instead, self.optional))

    def names(self, written: Sequence[str]) -> list[str]:
        """The names of columns: known ones in small letters, aliases as what they stand for unless that is there."""
        plain = [name.strip() for name in written]
        names = [name.lower() if name.lower() in self.known else name for name in plain]
        for place, name in enumerate(names):
            names[place] = next((each for each in self.aliases.get(_identifier(name), ()) if each not in names), name)
        return names

    def lacking(self, names: Collection[str]) -> Sequence[str]:
        """The columns that are not there, of the set of which the fewest are not."""
        return min(([each for each in one if each not in names] for one in (self.wanted, *self.instead)), key=len)

    @property
    def wording(self) -> str:
        return ", or ".join(", ".join(one) for one in (self.wanted, *self.instead))


def read_table(source: Input, layout: Layout = Layout(), *, name: str | None = None) -> Iterator[Row]:
    """The rows of a file, which messages call ``name``, by default its path; see `parse_table`. Raises InputError."""
    file = read_input(source)
    return parse_table(file.text, name or str(file), layout)


def parse_table(text: str, name: str, layout: Layout = Layout()) -> Iterator[Row]:
    """The rows of a table whose first line names the columns, separated by tabs if it holds one, else by commas.

    A table with wanted columns may also be separated by semicolons, as spreadsheets write it where the comma is the
    decimal mark, or by blanks; between tabs and semicolons 12,5 is a coordinate. Known columns may have capitals. Lines
    before the first that begin with # are comments, unless they name the columns, as NumPy writes them. A table whose
    first line begins with a brace is JSON lines: each line is an object, and names its own columns.

    Args:
        text: the table.
        name: what messages call it.
        layout: the columns that it must or may have, by default any.

    Raises InputError, naming the line where it can.
    """
    if text.lstrip().startswith("{"):
        yield from _json_rows(text, name, layout)
        return
    text = _without_comments(text, layout) if layout.wanted else text
    delimiter = _delimiter(text, layout)
    decimal_comma = bool(layout.wanted) and delimiter in ("\t", ";")
    text = _without_separator_line(text)
    if delimiter == " ":
        text = "\n".join(" ".join(line.split()) for line in text.split("\n"))
    lines = split_rows(text, name, delimiter)
    head = next(lines, None)
    columns = layout.names(head.values) if head else []
    lacking, bare = layout.lacking(columns), None
    if head and lacking:
        bare = layout.bare([_number(value.strip(), decimal_comma=decimal_comma) for value in head.values])
    if head and bare:
        lines, columns = itertools.chain([head], lines), list(bare)
    elif lacking or not columns:
        names = f" {layout.wording}; '{lacking[0]}' is not there" if lacking else ""
        raise InputError(f"{name}: its first line should name the columns{names}")
    for row in lines:
        yield Row(row.origin, columns, [value.strip() for value in row.values], decimal_comma, bare=bool(bare))


def kinds_of(values: Sequence[str]) -> str:
    """A letter for each value: # for a number, f for an image file's name, t for any other text.

    >>> kinds_of(["nose", "12.5", "a/b.jpg"])
    't#f'
    """
    return "".join("#" if _is_number(value) else "f" if _FILE_NAME.search(value) else "t" for value in values)


_FILE_NAME = re.compile(r"\S\.(?:jpe?g|jfif|jp2|png|tiff?|bmp|gif|webp|avif|hei[cf]|p[bgnp]m)$", re.IGNORECASE)
_SEPARATOR = re.compile(r'\s*"?sep=(?P<mark>[,;\t])"?[ \t]*\r?(?=\n)', re.IGNORECASE)
"""A first line that tells Excel how the columns are separated."""


def _delimiter(text: str, layout: Layout) -> str:
    if stated := _SEPARATOR.match(text):
        return stated["mark"]
    first = text.strip().partition("\n")[0].rstrip()
    if "\t" in first:
        return "\t"
    if layout.wanted and first.count(";") >= max(1, len(layout.wanted) - 1):
        return ";"
    return " " if layout.wanted and " " in first and not set(first) & set(',;"') else ","


def _without_separator_line(text: str) -> str:
    """The text with an empty line instead of Excel's, so that the lines keep their numbers."""
    stated = _SEPARATOR.match(text)
    return text[stated.end() :] if stated else text


def _without_comments(text: str, layout: Layout) -> str:
    """The text with empty lines instead of the comments before the first row; a # before columns' names is dropped."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if line.strip() and not line.lstrip().startswith("#"):
            break
        named = layout.names(re.split(r"[,;\t ]+", line.strip().lstrip("#").strip()))
        lines[number] = "" if layout.lacking(named) else line.lstrip().lstrip("#")
        if lines[number]:
            break
    return "\n".join(lines)


def _identifier(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")


def _number(text: str, *, decimal_comma: bool) -> str:
    return text.replace(",", ".") if decimal_comma and text.count(",") == 1 and "." not in text else text


def _json_rows(text: str, name: str, layout: Layout) -> Iterator[Row]:
    for row in split_rows(text, name, "\n", quoted=False):
        entry = parse_json(row.values[0], row.origin)
        columns = layout.names(list(entry)) if isinstance(entry, dict) else []
        if not isinstance(entry, dict) or layout.lacking(columns):
            raise InputError(f"{row.origin}: is not a JSON object with the entries {layout.wording}")
        values = (value if isinstance(value, str) else json_text(value) for value in entry.values())
        yield Row(row.origin, columns, list(values))


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
