"""Tables of scores per class, with a small bar for each selection in each cell."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from geomatch.evaluation.report.tables import heading, measure_named, results_under, schemes, table
from geomatch.evaluation.report.wording import (
    interval_text,
    number,
    selection_label,
    selection_name,
)
from geomatch.evaluation.results import ClassScore, Evaluation, Measure, Result, Score, alpha_text
from geomatch.visualize.charts import series_class
from geomatch.visualize.markup import Markup, element, joined

GROUPS = ("within", "across", "same side", "opposite sides")
"""Keys of ``per_class`` that are groups of classes."""
_ALL = "all"
_TICKS = "ticks on the bars: 95 % bootstrap intervals."

Parts = Callable[[Result], Mapping[str, ClassScore]]
"""Which scores of parts of the pairs a table shows."""


@dataclass(frozen=True)
class Column:
    """A column of the table. scores: for each selection, class -> score."""

    heading: str
    unit: str
    scores: list[dict[str, Score]]

    @property
    def full_bar(self) -> float:
        """The value of a bar as wide as the cell: 1 for shares, else the largest value."""
        known = [score.value for each in self.scores for score in each.values() if math.isfinite(score.value)]
        return 1.0 if self.unit == "share" else max(known, default=0.0) or 1.0


def class_section(evaluations: Sequence[Evaluation]) -> Markup:
    """PCK by class, then the other measures by class, folded if there is PCK; empty if there are no classes."""
    pck = _class_table(
        evaluations,
        _pck_columns(evaluations, lambda result: result.per_class),
        f"PCK under the protocol and average of the headline; {_TICKS}",
    )
    others = _class_table(evaluations, _measure_columns(evaluations), f"Means over the pairs of a class; {_TICKS}")
    if pck and others:
        others = element("details", element("summary", "Other measures by class"), others)
    return joined(_legend(evaluations), pck, others) if pck or others else Markup()


def difficulty_section(evaluations: Sequence[Evaluation]) -> Markup:
    """PCK by difficulty of the pairs, and of geometry-aware keypoints; empty if the benchmark tells neither."""
    if not any(result.breakdown for evaluation in evaluations for result in evaluation.results):
        return Markup()
    columns = _pck_columns(evaluations, lambda result: result.breakdown)
    caption = f"PCK under the protocol and average of the headline, by what makes a pair difficult; {_TICKS}"
    return joined(_legend(evaluations), _class_table(evaluations, columns, caption, "difficulty"))


def _pck_columns(evaluations: Sequence[Evaluation], parts: Parts) -> list[Column]:
    """The scores of ``parts`` of the results under the headline's protocol and average, a column for each alpha."""
    scheme = next(iter(schemes(evaluations)), ("", ""))
    results = [results_under(evaluation, scheme) for evaluation in evaluations]
    return [
        Column(f"PCK@{alpha_text(alpha)}", "share", [_pck_scores(each.get(alpha), parts) for each in results])
        for alpha in sorted(set().union(*results))
    ]


def _pck_scores(result: Result | None, parts: Parts) -> dict[str, Score]:
    """The scores of parts of a result and of all pairs."""
    if result is None:
        return {}
    pairs = sum(part.pairs for name, part in result.per_class.items() if name not in GROUPS)
    scores = {name: Score(part.pairs, part.pck, part.interval) for name, part in parts(result).items()}
    return {**scores, _ALL: Score(pairs, result.pck, result.interval)}


def _measure_columns(evaluations: Sequence[Evaluation]) -> list[Column]:
    measures = {measure.name: measure for each in evaluations for measure in each.measures if measure.per_class}
    return [
        Column(name, measure.unit, [_measure_scores(measure_named(name, each)) for each in evaluations])
        for name, measure in measures.items()
    ]


def _measure_scores(measure: Measure | None) -> dict[str, Score]:
    """The scores of the classes and of all pairs."""
    if measure is None:
        return {}
    pairs = sum(score.pairs for name, score in measure.per_class.items() if name not in GROUPS)
    return {**measure.per_class, _ALL: Score(pairs, measure.value, measure.interval or (math.nan, math.nan))}


def _class_table(
    evaluations: Sequence[Evaluation], columns: Sequence[Column], caption: str, of: str = "class"
) -> Markup:
    """A row for each class, then for the groups and for all pairs; empty if there are no classes."""
    pairs = {name: score.pairs for column in columns for each in column.scores for name, score in each.items()}
    classes = [name for name in pairs if name not in (*GROUPS, _ALL)]
    groups = [name for name in GROUPS if name in pairs]
    if not classes and not groups:
        return Markup()
    selections = [selection_name(evaluation) for evaluation in evaluations]
    rows, total = (
        [_class_row(name, pairs[name], columns, selections) for name in names] for names in (classes, [*groups, _ALL])
    )
    head = element("tr", heading(of), heading("pairs", "count"), *(heading(each.heading) for each in columns))
    return table(caption, head, [rows, total], "classes")


def _class_row(name: str, pairs: int, columns: Sequence[Column], selections: Sequence[str]) -> Markup:
    cells = (
        element(
            "td",
            *(
                _bar(scores.get(name), column, place, selection)
                for place, (scores, selection) in enumerate(zip(column.scores, selections, strict=True))
            ),
        )
        for column in columns
    )
    style = "group" if name in GROUPS else "all" if name == _ALL else None
    return element(
        "tr", element("th", name, scope="row"), element("td", f"{pairs:,}", class_="count"), *cells, class_=style
    )


def _bar(score: Score | None, column: Column, place: int, selection: str) -> Markup:
    """A value and its bar, with the interval as a whisker."""
    if score is None or not math.isfinite(score.value):
        parts = Markup()
    else:
        parts = joined(_stretch("fill", 0, score.value, column), _whisker(score, column))
    text = number(score.value if score else None, column.unit)
    extent = interval_text(score.interval if score else None, column.unit)
    label = f"{selection}: {text}, {extent}" if extent else f"{selection}: {text}"
    return element(
        "div",
        element("span", parts, class_=f"bar {series_class(place)}"),
        element("span", text, class_=f"value {column.unit}"),
        class_="line",
        role="img",
        aria_label=label,
        title=label,
    )


def _whisker(score: Score, column: Column) -> Markup:
    low, high = score.interval
    return _stretch("whisker", low, high, column) if math.isfinite(high - low) else Markup()


def _stretch(style: str, low: float, high: float, column: Column) -> Markup:
    """The part of a bar between two values."""
    left, right = (100 * min(max(value / column.full_bar, 0), 1) for value in (low, high))
    return element("span", class_=style, style=f"left:{left:.1f}%;width:{right - left:.1f}%")


def _legend(evaluations: Sequence[Evaluation]) -> Markup:
    """The colour of each selection."""
    labels = (element("li", selection_label(evaluation, place)) for place, evaluation in enumerate(evaluations))
    return element("ul", *labels, class_="legend")
