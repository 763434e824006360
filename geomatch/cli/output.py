"""Print results on stdout: for people on a terminal, as JSON elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from geomatch.cli.streams import utf8_stdout

if TYPE_CHECKING:
    from rich.table import Table


def print_json(value: object) -> None:
    """Print a value as one line of JSON that stdout's encoding can carry, and every reader of JSON understands."""
    from geomatch.io.json_text import json_text

    print(json_text(value, ascii_only=not utf8_stdout()), flush=True)


def print_record(record: Mapping[str, object], summary: str) -> None:
    """Print the summary on a terminal, the record as one line of JSON elsewhere."""
    if sys.stdout.isatty():
        typer.echo(summary)
    else:
        print_json(record)


def print_table(
    title: str | None,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    text: Collection[str] = (),
    totals: Iterable[Sequence[str]] = (),
) -> None:
    """Print a table, as several below each other if its numbers are wider than the terminal.

    text: the columns that hold text, aligned left and folded; the others hold numbers, which are never cut. totals:
    rows in bold, below a line.
    """
    from rich.console import Console

    console = Console(markup=False)  # names from files are not markup
    body, ends = list(rows), list(totals)
    widths = [0 if name in text else _number_width(name, place, [*body, *ends]) for place, name in enumerate(columns)]
    for chosen in panels(widths, console.width - 1 - widths.count(0) * (_LEAST_TEXT + _FRAME)):
        console.print(_table(title, columns, [widths[place] for place in chosen], chosen, body, ends))


_FRAME = 3
"""What a column adds to its content: a rule and two spaces."""
_LEAST_TEXT = 12
"""The width that numbers leave for each column of text, at least."""


def panels(widths: Sequence[int], available: int) -> list[list[int]]:
    """The places of columns in each of several tables, so that the numbers fit ``available`` characters.

    widths: of the columns; 0 for text, which every table repeats. Each table has at least one column of numbers.

    >>> panels([0, 5, 5, 5], 20)
    [[0, 1, 2], [0, 3]]
    """
    text = [place for place, width in enumerate(widths) if not width]
    found: list[list[int]] = [[]]
    used = 0
    for place, width in enumerate(widths):
        if width and found[-1] and used + width + _FRAME > available:
            found.append([])
            used = 0
        if width:
            found[-1].append(place)
            used += width + _FRAME
    return [sorted([*text, *numbers]) for numbers in found]


def _number_width(name: str, place: int, rows: Sequence[Sequence[str]]) -> int:
    """The width of a column of numbers: that of its widest cell, or of the widest line or word of its name."""
    from rich.cells import cell_len

    lines = name.splitlines()
    return max(1, *map(cell_len, lines if len(lines) > 1 else name.split()), *(cell_len(row[place]) for row in rows))


def _table(
    title: str | None,
    columns: Sequence[str],
    widths: Sequence[int],
    chosen: Sequence[int],
    rows: Sequence[Sequence[str]],
    totals: Sequence[Sequence[str]],
) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for place, width in zip(chosen, widths, strict=True):
        table.add_column(columns[place], justify="right" if width else "left", overflow="fold", width=width or None)
    for row in rows:
        table.add_row(*(row[place] for place in chosen))
    table.add_section()
    for row in totals:
        table.add_row(*(row[place] for place in chosen), style="bold")
    return table
