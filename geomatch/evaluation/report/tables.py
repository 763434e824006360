"""The tables of overall scores. A row or column is a selection of features and matcher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from geomatch.evaluation.report.wording import best, interval_text, number, selection_label
from geomatch.evaluation.results import Evaluation, Measure, Result, alpha_text
from geomatch.visualize.markup import Markup, element, joined

Scheme = tuple[str, str]
"""A protocol and one of its averages."""

Estimate = tuple[float | None, tuple[float, float] | None]
"""A value and its interval, each None if missing."""


def schemes(evaluations: Sequence[Evaluation]) -> list[Scheme]:
    """Every protocol with each of its averages; the first is that of the headline."""
    return list(dict.fromkeys((result.protocol, result.average) for each in evaluations for result in each.results))


def results_under(evaluation: Evaluation, scheme: Scheme) -> dict[float, Result]:
    """The results under a protocol and average, by alpha."""
    return {result.alpha: result for result in evaluation.results if (result.protocol, result.average) == scheme}


def headline_table(evaluations: Sequence[Evaluation], meanings: Mapping[str, str]) -> Markup:
    """PCK of every selection under the first protocol and average; empty if there is no PCK."""
    known = schemes(evaluations)
    if not known:
        return Markup()
    protocol, average = known[0]
    alphas = _alphas(evaluations, known[:1])
    head = element("tr", heading("features + matcher"), *map(_alpha_heading, alphas))
    caption = joined(
        element("b", f"Protocol {protocol}, {average}"), _explained(meanings, protocol), _reading(evaluations)
    )
    return table(caption, head, [_selection_rows(evaluations, known[0], alphas)], "headline")


def protocol_table(evaluations: Sequence[Evaluation], meanings: Mapping[str, str]) -> Markup:
    """PCK of every selection under every protocol and average; empty if there is only one."""
    known = schemes(evaluations)
    if len(known) < 2:
        return Markup()
    alphas = _alphas(evaluations, known)
    head = element("tr", heading("average"), heading("features + matcher"), *map(_alpha_heading, alphas))
    bodies = [
        [
            _protocol_row(protocol, meanings, columns=2 + len(alphas)),
            *(
                row
                for scheme in known
                if scheme[0] == protocol
                for row in _selection_rows(evaluations, scheme, alphas, average_shown=True)
            ),
        ]
        for protocol in dict.fromkeys(protocol for protocol, _ in known)
    ]
    return table(
        "The same predictions under every protocol; compare numbers within one protocol only.",
        head,
        bodies,
        "protocols",
    )


def measure_table(evaluations: Sequence[Evaluation]) -> Markup:
    """Every score other than PCK; empty if there is none."""
    names = list(dict.fromkeys(measure.name for each in evaluations for measure in each.measures))
    if not names:
        return Markup()
    labels = (selection_label(evaluation, place) for place, evaluation in enumerate(evaluations))
    head = element("tr", heading("measure"), *(heading(label, "score") for label in labels))
    rows = [_measure_row([measure_named(name, each) for each in evaluations]) for name in names]
    return table(joined("↑ higher is better, ↓ lower is better. ", _reading(evaluations)), head, [rows], "measures")


def measure_named(name: str, evaluation: Evaluation) -> Measure | None:
    """The measure of this name, or None."""
    return next((measure for measure in evaluation.measures if measure.name == name), None)


def table(caption: str, head: Markup, bodies: Sequence[Sequence[Markup]], style: str) -> Markup:
    """A table in a box that scrolls sideways on narrow screens, also by keyboard."""
    caption_element = element("caption", element("span", caption, class_="pinned"))
    filled = (element("tbody", *rows) for rows in bodies)
    whole = element("table", caption_element, element("thead", head), *filled, class_=style)
    return element("div", whole, class_="scroll", tabindex=0)


def heading(content: str, style: str | None = None) -> Markup:
    """The header cell of a column."""
    return element("th", content, scope="col", class_=style)


def _reading(evaluations: Sequence[Evaluation]) -> Markup:
    compared = " Bold: the best." if len(evaluations) > 1 else ""
    return element("span", f"Small: 95 % bootstrap interval over pairs.{compared}", class_="reading")


def _alphas(evaluations: Sequence[Evaluation], chosen: Sequence[Scheme]) -> list[float]:
    return sorted({alpha for each in evaluations for scheme in chosen for alpha in results_under(each, scheme)})


def _alpha_heading(alpha: float) -> Markup:
    return heading(f"PCK@{alpha_text(alpha)}", "score")


def _explained(meanings: Mapping[str, str], protocol: str) -> Markup:
    meaning = meanings.get(protocol)
    return element("span", meaning, class_="meaning") if meaning else Markup()


def _protocol_row(protocol: str, meanings: Mapping[str, str], columns: int) -> Markup:
    words = element("span", element("b", protocol), _explained(meanings, protocol), class_="pinned")
    return element("tr", element("th", words, scope="rowgroup", colspan=columns), class_="protocol")


def _selection_rows(
    evaluations: Sequence[Evaluation], scheme: Scheme, alphas: Sequence[float], average_shown: bool = False
) -> list[Markup]:
    """A row for each selection; the best score of each column is marked."""
    results = [results_under(evaluation, scheme) for evaluation in evaluations]
    columns = [_score_cells([_pck(each.get(alpha)) for each in results]) for alpha in alphas]
    averages = [element("th", scheme[1], scope="rowgroup", rowspan=len(evaluations))] if average_shown else []
    return [
        element(
            "tr",
            *(averages if place == 0 else []),
            element("th", selection_label(evaluation, place), scope="row", class_="selection"),
            *(cells[place] for cells in columns),
        )
        for place, evaluation in enumerate(evaluations)
    ]


def _pck(result: Result | None) -> Estimate:
    return (result.pck, result.interval) if result else (None, None)


def _measure_row(measures: Sequence[Measure | None]) -> Markup:
    known = next(measure for measure in measures if measure)
    arrow = element("span", "↑" if known.better == "higher" else "↓", class_="arrow")
    name = element("th", known.name, " ", arrow, element("small", known.about), scope="row")
    scores = [(measure.value, measure.interval) if measure else (None, None) for measure in measures]
    return element("tr", name, *_score_cells(scores, known.better, known.unit))


def _score_cells(scores: Sequence[Estimate], better: str = "higher", unit: str = "share") -> list[Markup]:
    """A cell for each score: the value (bold if best) and its interval."""
    winners = best([value for value, _ in scores], better, unit)
    return [
        element(
            "td",
            element("strong" if place in winners else "span", number(value, unit)),
            element("small", interval_text(interval, unit)),
            class_="score",
        )
        for place, (value, interval) in enumerate(scores)
    ]
