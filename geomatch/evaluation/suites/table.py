"""A finished table: the scores of each method by class, beside published ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from geomatch.evaluation.results import ClassScore, Evaluation, Measure, Result, Score
from geomatch.evaluation.suites.suite import PaperTable


@dataclass(frozen=True)
class Row:
    """Scores in [0, 1]. overall: the mean that the score defines; per_class: by class.

    interval: 95 % bootstrap over pairs. weights: SHA-256, None for features without. source: the paper of a published
    row, "" for one that was computed. competes: whether the row is of a method, not of a bound.
    """

    method: str
    overall: float
    per_class: dict[str, float]
    interval: tuple[float, float] | None = None
    weights: str | None = None
    source: str = ""
    competes: bool = True


@dataclass(frozen=True)
class FinishedTable:
    """A table. pairs, of: how many were scored, and all usable pairs of the split. classes: the columns."""

    title: str
    dataset: str
    split: str
    score: str
    pairs: int
    of: int
    classes: list[str]
    rows: list[Row]

    @property
    def computed(self) -> list[Row]:
        return [row for row in self.rows if not row.source]

    @property
    def sources(self) -> list[str]:
        """The papers of published rows, each once."""
        return list(dict.fromkeys(row.source for row in self.rows if row.source))

    @property
    def caption(self) -> str:
        """What the table holds, in words."""
        pairs = f"{self.pairs:,} pairs" if self.pairs == self.of else f"SUBSET of {self.pairs:,} of {self.of:,} pairs"
        return f"{self.title}: {self.score}; {self.dataset} {self.split}, {pairs}"

    def is_best(self, row: Row, name: str | None = None) -> bool:
        """Whether a method that was computed has the best score of a class, or of all, to the digits shown."""
        ours = [text_of(each, name) for each in self.computed if each.competes]
        text = text_of(row, name)
        return row.competes and not row.source and text != "-" and text == max(ours)


def text_of(row: Row, name: str | None = None) -> str:
    """The score of a class, or the overall one, as .524; a dash if there is none."""
    value = row.overall if name is None else row.per_class.get(name)
    return "-" if value is None or value != value else f"{value:.3f}".removeprefix("0")


def finish_table(table: PaperTable, evaluations: Sequence[Evaluation]) -> FinishedTable | None:
    """The table of evaluations, a row each, a bound's and the published rows; None if the benchmark lacks the score."""
    scores = [_score(table, evaluation) for evaluation in evaluations]
    if not scores or None in scores:
        return None
    first = evaluations[0]
    categories = sorted({pair.category for pair in first.pair_list})
    rows = [
        _row(evaluation, score, categories)
        for evaluation, score in zip(evaluations, scores, strict=True)
        if score is not None
    ]
    known = [name for name in categories if any(name in row.per_class for row in rows)]
    published = [Row(each.name, each.value, {}, source=each.source) for each in table.published]
    rows += [*_bound(table, evaluations, categories), *published]
    return FinishedTable(table.title, first.dataset, first.split, table.score, first.pairs, first.of, known, rows)


def _bound(table: PaperTable, evaluations: Sequence[Evaluation], categories: Sequence[str]) -> list[Row]:
    """The row of a table's bound, if it has one and its matcher was computed; boxes are the same for all features."""
    if table.bound is None:
        return []
    for evaluation in evaluations:
        score = next((each for each in evaluation.measures if each.name == table.bound.measure), None)
        if evaluation.matcher == table.bound.matcher and score:
            return [replace(_row(evaluation, score, categories), method=table.bound.name, weights=None, competes=False)]
    return []


def _score(table: PaperTable, evaluation: Evaluation) -> Result | Measure | None:
    if table.measure:
        return next((each for each in evaluation.measures if each.name == table.measure), None)
    return next(
        (each for each in evaluation.results if (each.protocol, each.alpha) == (table.protocol, table.alpha)), None
    )


def _row(evaluation: Evaluation, score: Result | Measure, categories: Sequence[str]) -> Row:
    per_class = {each: _value(score.per_class[each]) for each in categories if each in score.per_class}
    name = f"{evaluation.features} + {evaluation.matcher}"
    return Row(name, _value(score), per_class, score.interval, evaluation.weights)


def _value(score: Result | Measure | ClassScore | Score) -> float:
    return score.pck if isinstance(score, Result | ClassScore) else score.value
