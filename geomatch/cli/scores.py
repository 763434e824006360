"""Print scores as tables or JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

import typer
from rich.console import Console
from rich.table import Table

from geomatch.cli.console import printable
from geomatch.evaluation.compare import Comparison, Scored
from geomatch.evaluation.results import Evaluation, Measure, Result, plain, to_record
from geomatch.io.json_text import json_text

Interval = tuple[float, float]


def print_json(evaluations: Sequence[Evaluation]) -> None:
    """Print one JSON line per evaluation."""
    for evaluation in evaluations:
        typer.echo(json_text(to_record(evaluation)))


def print_tables(evaluations: Sequence[Evaluation]) -> None:
    """Print each evaluation: scores by class under the first protocol, all protocols, then the other measures."""
    console = _console()
    for evaluation in evaluations:
        for table in _tables(evaluation):
            console.print(table)
    if len(evaluations) > 1:
        console.print(_selection_table(evaluations))


def print_comparison(first: Scored, second: Scored, comparisons: Sequence[Comparison], *, json: bool) -> None:
    """Print every score of both evaluations, the interval of their difference, and which is better."""
    if json:
        scores = [plain(comparison) for comparison in comparisons]
        typer.echo(json_text({"first": first.label, "second": second.label, "scores": scores}))
        return
    names = {"first": f"A: {first.label}", "second": f"B: {second.label}", "undecided": "undecided"}
    table = Table(
        title=f"{first.dataset}, {len(first.pairs)} pairs\n{names['first']}\n{names['second']}", title_justify="left"
    )
    for column in ("score", "A", "B", "B - A", "95 %", "better"):
        table.add_column(column, justify="left" if column in ("score", "better") else "right")
    for each in comparisons:
        difference = each.difference
        table.add_row(
            each.score,
            _number(each.first),
            _number(each.second),
            _number(difference.value, "+"),
            f"{_number(difference.low, '+')} to {_number(difference.high, '+')}",
            names[each.better].partition(":")[0],
        )
    _console().print(table)


def _console() -> Console:
    """A console for text with names from files; Rich markup is off."""
    return Console(markup=False)


def _tables(evaluation: Evaluation) -> Iterator[Table]:
    subset = f"SUBSET of {evaluation.pairs} of {evaluation.of} pairs, " if evaluation.pairs < evaluation.of else ""
    what = f"{subset}{evaluation.dataset} {evaluation.split}, {{}}: {evaluation.features} + {evaluation.matcher}"
    groups = [list(group) for _, group in groupby(evaluation.results, key=lambda r: (r.protocol, r.average))]
    main = evaluation.results[0].protocol if evaluation.results else ""
    for results in groups:
        if results[0].protocol == main:
            yield _class_table(what.format(f"protocol {main}, {results[0].average}"), evaluation.pairs, results)
    if any(result.protocol != main for result in evaluation.results):
        yield _protocol_table(what.format("every protocol"), groups)
    if evaluation.measures:
        yield _measure_table(what.format("other measures"), evaluation.measures)


def _class_table(title: str, pairs: int, results: Sequence[Result]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    table.add_column("pairs", justify="right")
    for result in results:
        table.add_column(f"PCK@{result.alpha:.2f}", justify="right")
    for name in results[0].per_class:
        scores = [result.per_class[name] for result in results]
        table.add_row(printable(name), str(scores[0].pairs), *(_number(score.pck) for score in scores))
    table.add_section()
    table.add_row("all", str(pairs), *(_number(result.pck) for result in results), style="bold")
    table.add_row("95 %", "", *(_interval(result.interval) for result in results), style="dim")
    return table


def _protocol_table(title: str, groups: Sequence[Sequence[Result]]) -> Table:
    table = Table(title=title, title_justify="left")
    alphas = sorted({result.alpha for results in groups for result in results})
    for column in ("protocol", "average"):
        table.add_column(column)
    for alpha in alphas:
        table.add_column(f"PCK@{alpha:.2f}", justify="right")
    for results in groups:
        found = {result.alpha: _number(result.pck) for result in results}
        table.add_row(results[0].protocol, results[0].average, *(found.get(alpha, "") for alpha in alphas))
    return table


def _measure_table(title: str, measures: Sequence[Measure]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("measure", "value", "95 %", "definition"):
        table.add_column(column, justify="right" if column in ("value", "95 %") else "left")
    for measure in measures:
        arrow = "↑" if measure.better == "higher" else "↓"
        interval = _interval(measure.interval) if measure.interval else ""
        table.add_row(f"{measure.name} {arrow}", _number(measure.value), interval, measure.about)
    return table


def _selection_table(evaluations: Sequence[Evaluation]) -> Table:
    """A column per selection: the scores under the first protocol, then the measures."""
    first = evaluations[0]
    table = Table(title=f"{first.dataset} {first.split}, all selections", title_justify="left")
    table.add_column("score")
    for evaluation in evaluations:
        table.add_column(f"{evaluation.features}\n+ {evaluation.matcher}", justify="right")
    for index, result in enumerate(first.results):
        if result.protocol == first.results[0].protocol:
            name = f"{result.average} PCK@{result.alpha:.2f}"
            table.add_row(name, *(_number(evaluation.results[index].pck) for evaluation in evaluations))
    for index, measure in enumerate(first.measures):
        table.add_row(measure.name, *(_number(evaluation.measures[index].value) for evaluation in evaluations))
    return table


def _number(value: float, sign: str = "") -> str:
    return "-" if math.isnan(value) else f"{value:{sign}.3f}"


def _interval(interval: Interval) -> str:
    return f"{_number(interval[0])}-{_number(interval[1])}"
