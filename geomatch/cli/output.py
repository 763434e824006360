"""Print results on stdout: for people on a terminal, as JSON elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence

import typer

from geomatch.cli.streams import utf8_stdout


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
    columns: Iterable[str],
    rows: Iterable[Sequence[str]],
    *,
    text: Collection[str] = (),
    totals: Iterable[Sequence[str]] = (),
) -> None:
    """Print a table.

    text: the columns that hold text, aligned left; the others hold numbers. totals: rows in bold, below a line.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column in text else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    table.add_section()
    for row in totals:
        table.add_row(*row, style="bold")
    Console(markup=False).print(table)  # names from files are not markup
