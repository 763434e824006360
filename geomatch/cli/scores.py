"""Print scores as tables or JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby

from geomatch.cli.output import print_json, print_table
from geomatch.errors import printable
from geomatch.evaluation.compare import Comparison, Scored
from geomatch.evaluation.results import ClassScore, Evaluation, Measure, Result, alpha_text, plain, to_record


def print_json_lines(evaluations: Sequence[Evaluation]) -> None:
    """Print one JSON line per evaluation."""
    for evaluation in evaluations:
        print_json(to_record(evaluation))


def print_tables(evaluations: Sequence[Evaluation]) -> None:
    """Print each evaluation: scores by class under the first protocol, all protocols, then the other measures."""
    for evaluation in evaluations:
        _print_evaluation(evaluation)
    if len(evaluations) > 1:
        _print_selections(evaluations)


def print_comparison(first: Scored, second: Scored, comparisons: Sequence[Comparison], *, json: bool) -> None:
    """Print every score of both evaluations, the interval of their difference, and which is better."""
    if json:
        scores = [plain(comparison) for comparison in comparisons]
        print_json({"first": first.label, "second": second.label, "scores": scores})
        return
    better = {"first": "A", "second": "B", "undecided": "undecided"}
    rows = []
    for each in comparisons:
        value = _number(each.difference.value, "+")
        interval = f"{_number(each.difference.low, '+')} to {_number(each.difference.high, '+')}"
        rows.append((each.score, _number(each.first), _number(each.second), value, interval, better[each.better]))
    print_table(
        f"{first.dataset}, {len(first.pairs)} pairs\nA: {first.label}\nB: {second.label}",
        ["score", "A", "B", "B - A", "95 %", "better"],
        rows,
        text=["score", "better"],
    )


def _print_evaluation(evaluation: Evaluation) -> None:
    subset = f"SUBSET of {evaluation.pairs} of {evaluation.of} pairs, " if evaluation.pairs < evaluation.of else ""
    what = f"{subset}{evaluation.dataset} {evaluation.split}, {{}}: {evaluation.features} + {evaluation.matcher}"
    groups = [list(group) for _, group in groupby(evaluation.results, key=lambda r: (r.protocol, r.average))]
    main = evaluation.results[0].protocol if evaluation.results else ""
    for results in groups:
        if results[0].protocol == main:
            title = what.format(f"protocol {main}, {results[0].average}")
            _print_classes(title, evaluation.pairs, results)
            _print_breakdown(title, results)
    if any(result.protocol != main for result in evaluation.results):
        _print_protocols(what.format("every protocol"), groups)
    if evaluation.measures:
        _print_measures(what.format("other measures"), evaluation.measures)


def _print_classes(title: str, pairs: int, results: Sequence[Result]) -> None:
    totals = [
        ("all", str(pairs), *(_number(result.pck) for result in results)),
        ("95 %", "", *(_interval(result.interval) for result in results)),
    ]
    rows = _score_rows([result.per_class for result in results])
    print_table(title, ["class", "pairs", *_alpha_columns(results)], rows, text=["class"], totals=totals)


def _print_breakdown(title: str, results: Sequence[Result]) -> None:
    """The scores by difficulty, and of the geometry-aware keypoints, if there are any."""
    if results[0].breakdown:
        rows = _score_rows([result.breakdown for result in results])
        print_table(
            f"{title}, by difficulty", ["difficulty", "pairs", *_alpha_columns(results)], rows, text=["difficulty"]
        )


def _score_rows(scores: Sequence[Mapping[str, ClassScore]]) -> list[tuple[str, ...]]:
    """A row for each name: the number of pairs, and PCK by each of ``scores``."""
    return [
        (printable(name), str(first.pairs), *(_number(each[name].pck) for each in scores))
        for name, first in scores[0].items()
    ]


def _alpha_columns(results: Sequence[Result]) -> list[str]:
    return [f"PCK@{alpha_text(result.alpha)}" for result in results]


def _print_protocols(title: str, groups: Sequence[Sequence[Result]]) -> None:
    alphas = sorted({result.alpha for results in groups for result in results})
    names = ["protocol", "average"]
    rows = []
    for results in groups:
        found = {result.alpha: _number(result.pck) for result in results}
        rows.append((results[0].protocol, results[0].average, *(found.get(alpha, "") for alpha in alphas)))
    print_table(title, [*names, *(f"PCK@{alpha_text(alpha)}" for alpha in alphas)], rows, text=names)


def _print_measures(title: str, measures: Sequence[Measure]) -> None:
    rows = []
    for measure in measures:
        arrow = "↑" if measure.better == "higher" else "↓"
        interval = _interval(measure.interval) if measure.interval else ""
        rows.append((f"{measure.name} {arrow}", _number(measure.value), interval, measure.about))
    print_table(title, ["measure", "value", "95 %", "definition"], rows, text=["measure", "definition"])


def _print_selections(evaluations: Sequence[Evaluation]) -> None:
    """A column per selection: the scores under the first protocol, then the measures."""
    first = evaluations[0]
    rows = []
    for index, result in enumerate(first.results):
        if result.protocol == first.results[0].protocol:
            name = f"{result.average} PCK@{alpha_text(result.alpha)}"
            rows.append((name, *(_number(evaluation.results[index].pck) for evaluation in evaluations)))
    for index, measure in enumerate(first.measures):
        rows.append((measure.name, *(_number(evaluation.measures[index].value) for evaluation in evaluations)))
    columns = ["score", *(f"{evaluation.features}\n+ {evaluation.matcher}" for evaluation in evaluations)]
    print_table(f"{first.dataset} {first.split}, all selections", columns, rows, text=["score"])


def _number(value: float, sign: str = "") -> str:
    return "-" if math.isnan(value) else f"{value:{sign}.3f}"


def _interval(interval: tuple[float, float]) -> str:
    return f"{_number(interval[0])}-{_number(interval[1])}"
