"""Finished tables as text for a terminal, Markdown and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from textwrap import fill

from geomatch.evaluation.suites.table import FinishedTable, Row, text_of

SHORT_NAMES = {
    "aeroplane": "aero",
    "bicycle": "bike",
    "diningtable": "table",
    "motorbike": "mbike",
    "pottedplant": "plant",
    "tvmonitor": "tv",
    "winebottle": "wine",
}
ALL = "all"
METHOD = "method"


def short_name(category: str) -> str:
    """A class as tables head its column.

    >>> [short_name(name) for name in ("winebottle(wC)", "bicycle-to-motorbike")]
    ['wine(wC)', 'bike>mbike']
    """
    return re.sub("|".join(SHORT_NAMES), lambda found: SHORT_NAMES[found[0]], category.replace("-to-", ">"))


def to_text(table: FinishedTable, width: int) -> str:
    """Lines of at most ``width`` characters: below each other as many tables as the classes need.

    A method whose name is longer than half the width is cut; numbers never are.
    """
    headings, rows = _cells(table)
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    widths[0] = min(widths[0], width // 2)
    known = len(table.computed)
    parts = [fill(table.caption, width)]
    for columns in _panels(widths, width):
        # A published row has an overall score alone.
        shown = [*rows[:known], *(row for row in rows[known:] if any(row[place] != "-" for place in columns[1:]))]
        cells = ([row[place] for place in columns] for row in (headings, *shown))
        lines = [_line(row, [widths[place] for place in columns]) for row in cells]
        rule = "-" * max(map(len, lines))
        head, ours, theirs = lines[:1], lines[1 : known + 1], lines[known + 1 :]
        parts.append("\n".join([*head, rule, *ours, *([rule, *theirs] if theirs else [])]))
    return "\n\n".join([*parts, *(fill(note, width) for note in _notes(table))]) + "\n"


def to_markdown(tables: Sequence[FinishedTable], heading: str, notes: Sequence[str]) -> str:
    """A page with all tables; the best computed score of each column is bold."""
    parts = [f"# {heading}"]
    for table in tables:
        headings, rows = _cells(table, "**{}**")
        lines = [headings, ["---", *["---:"] * (len(headings) - 1)], *rows]
        parts += [f"## {table.title}", table.caption]
        parts += ["\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |" for cells in lines)]
        parts += _notes(table)
    return "\n\n".join([*parts, *(f"- {note}" for note in notes)]) + "\n"


def to_latex(tables: Sequence[FinishedTable], notes: Sequence[str]) -> str:
    """Tables for a paper; they need the packages booktabs and graphicx."""
    parts = ["% needs \\usepackage{booktabs,graphicx}", *(f"% {note}" for note in notes)]
    return "\n".join([*parts, *map(_latex_table, tables)])


def _latex_table(table: FinishedTable) -> str:
    headings, rows = _cells(table, "\\textbf{{{}}}", escape=latex_escaped)
    lines = [" & ".join(cells) + " \\\\" for cells in (list(map(latex_escaped, headings)), *rows)]
    split = 1 + len(table.computed)
    return "\n".join(
        [
            "\\begin{table*}",
            "\\centering",
            "\\resizebox{\\textwidth}{!}{%",
            f"\\begin{{tabular}}{{l{'r' * (len(headings) - 1)}}}",
            "\\toprule",
            lines[0],
            "\\midrule",
            *lines[1:split],
            *(["\\midrule"] if lines[split:] else []),
            *lines[split:],
            "\\bottomrule",
            "\\end{tabular}}",
            f"\\caption{{{latex_escaped(' '.join([table.caption + '.', *_notes(table)]))}}}",
            "\\end{table*}",
            "",
        ]
    )


def latex_escaped(text: str) -> str:
    r"""Text with LaTeX's special characters escaped.

    >>> latex_escaped("a_b 95 %")
    'a\\_b 95 \\%'
    """
    named = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", ">": "$\\to$"}
    return re.sub(r"[\\~^>&%$#_{}]", lambda found: named.get(found[0], f"\\{found[0]}"), text)


def _cells(
    table: FinishedTable, bold: str = "{}", escape: Callable[[str], str] = str
) -> tuple[list[str], list[list[str]]]:
    """The headings, and the cells of each row: method, overall score, scores of the classes. bold: marks the best."""
    columns = [None, *table.classes]

    def cell(row: Row, name: str | None) -> str:
        text = text_of(row, name)
        return bold.format(text) if table.is_best(row, name) else text

    rows = [[escape(method_name(table, row)), *(cell(row, name) for name in columns)] for row in table.rows]
    return [METHOD, ALL, *map(short_name, table.classes)], rows


def method_name(table: FinishedTable, row: Row) -> str:
    """The method, with the number of its paper if it was published."""
    return f"{row.method} [{table.sources.index(row.source) + 1}]" if row.source else row.method


def _notes(table: FinishedTable) -> list[str]:
    """The sources of published rows, as one paragraph, if there are any."""
    sources = [f"[{number}] {source}" for number, source in enumerate(table.sources, 1)]
    return [f"Published: {'; '.join(sources)}."] if sources else []


def _panels(widths: Sequence[int], available: int) -> Iterator[list[int]]:
    """The places of the columns of each of several tables that fit; each begins with the first column."""
    columns, used = [0], widths[0]
    for place, width in enumerate(widths[1:], 1):
        if len(columns) > 1 and used + 1 + width > available:
            yield columns
            columns, used = [0], widths[0]
        columns.append(place)
        used += 1 + width
    yield columns


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0] if len(cells[0]) <= widths[0] else f"{cells[0][: widths[0] - 1]}\N{HORIZONTAL ELLIPSIS}"
    numbers = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
    return " ".join([first.ljust(widths[0]), *numbers]).rstrip()
