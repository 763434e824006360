"""The page of a paper's tables."""

from __future__ import annotations

from collections.abc import Sequence

from geomatch.evaluation.report.style import STYLE
from geomatch.evaluation.report.tables import heading, table
from geomatch.evaluation.report.wording import interval_text
from geomatch.evaluation.suites.formats import method_name, short_name
from geomatch.evaluation.suites.table import FinishedTable, Row, text_of
from geomatch.visualize.markup import Markup, element, joined
from geomatch.visualize.page import html_page


def paper_page(tables: Sequence[FinishedTable], paper: str, notes: Sequence[str], command: str) -> str:
    """A self-contained HTML page of finished tables.

    Args:
        tables: the tables, one section each.
        paper: the paper they are of, the heading.
        notes: what could not be computed, and why.
        command: the command line, to be shown on the page.
    """
    warnings = element("div", element("ul", *(element("li", note) for note in notes)), class_="banner", role="note")
    sections = (
        element("section", element("h2", each.title), _table(each), id=f"table-{place}")
        for place, each in enumerate(tables, 1)
    )
    links = (element("a", each.title, href=f"#table-{place}") for place, each in enumerate(tables, 1))
    return html_page(
        paper,
        element(
            "header",
            element("p", "geomatch reproduction", class_="eyebrow"),
            element("h1", paper),
            element("nav", *links, aria_label="Sections"),
        ),
        element("main", warnings if notes else Markup(), *sections, element("pre", element("code", command))),
        style=STYLE,
    )


def _table(finished: FinishedTable) -> Markup:
    columns = [None, *finished.classes]
    head = element(
        "tr", heading("method"), heading("all", "score"), *(heading(short_name(c), "score") for c in finished.classes)
    )
    computed = [_row(finished, row, columns) for row in finished.computed]
    published = [_row(finished, row, columns) for row in finished.rows if row.source]
    sources = [f"[{number}] {source}" for number, source in enumerate(finished.sources, 1)]
    caption = joined(
        element("b", finished.caption),
        element(
            "span", "Small: 95 % bootstrap interval over pairs. Bold: the best that was computed.", class_="meaning"
        ),
        element("span", f"Published: {'; '.join(sources)}.", class_="meaning") if sources else Markup(),
    )
    return table(caption, head, [computed, *([published] if published else [])], "paper")


def _row(finished: FinishedTable, row: Row, columns: Sequence[str | None]) -> Markup:
    cells = []
    for name in columns:
        text = text_of(row, name)
        interval = element("small", interval_text(row.interval)) if name is None and row.interval else Markup()
        number = element("strong" if finished.is_best(row, name) else "span", text)
        cells.append(element("td", number, interval, class_="score"))
    return element("tr", element("th", method_name(finished, row), scope="row", class_="selection"), *cells)
