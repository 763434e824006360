"""What an evaluation says, as plain values that become JSON, CSV, tables and the report."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass


@dataclass(frozen=True)
class ClassScore:
    """The score of one category, or of a group of them. ``interval``: 95 % bootstrap over its pairs."""

    pairs: int
    pck: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Result:
    """PCK under one protocol, average and threshold, in [0, 1]; ``interval``: 95 % bootstrap over pairs."""

    protocol: str
    average: str
    alpha: float
    pck: float
    interval: tuple[float, float]
    per_class: dict[str, ClassScore]


@dataclass(frozen=True)
class Score:
    """A mean over pairs. pairs: how many have a say in it. value: NaN if none has. interval: 95 % bootstrap."""

    pairs: int
    value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Measure:
    """A number that is no PCK: flow accuracy, label transfer, end-point error, regions, quality of confidence.

    unit: "share" in [0, 1], "pixels", or "boxes" (sides of the object's box). better: "higher" or "lower".
    per_pair: the values it is the mean of, in the order of ``Evaluation.pair_list`` (None for pairs that have none);
        empty for measures pooled over all points.
    """

    name: str
    about: str
    unit: str
    better: str
    value: float
    interval: tuple[float, float] | None
    per_class: dict[str, Score]
    per_pair: list[float | None]


@dataclass(frozen=True)
class Curve:
    """A named line for the report: y over x, with what it is compared with (``reference``), on the same x.

    "pck" (x: alpha), "sparsification" (x: share of matches dropped, least confident first; y: share of wrong ones among
    the rest; reference: the best possible order), "calibration" (x: mean confidence of a bin; y: share right;
    weights: share of points in the bin), "pcr" (x: tau), "miou" (x: k).
    """

    name: str
    x: list[float]
    y: list[float]
    reference: list[float] | None = None
    weights: list[float] | None = None


@dataclass(frozen=True)
class ScoredPair:
    """One pair of an evaluation: what it is, and how many of its points were right.

    correct: protocol -> alpha as text ("0.1") -> number of right points.
    """

    source: str
    target: str
    category: str
    group: str | None
    points: int
    correct: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Evaluation:
    """A run over a benchmark: what was scored, how, and the scores.

    pairs: how many were scored; of: how many the split has (more than ``pairs`` means a subset, by --limit).
    skipped: why each pair that could not be used was left out. seconds: of each stage. extractions: how many images
    features were computed of. reused: pairs whose predictions were kept from an earlier run.
    """

    dataset: str
    split: str
    pairs: int
    of: int
    keypoints: int
    features: str
    weights: str | None
    matcher: str
    settings: dict[str, object]
    version: str
    results: list[Result]
    measures: list[Measure]
    curves: list[Curve]
    skipped: list[str]
    reused: int
    extractions: int
    seconds: dict[str, float]
    pair_list: list[ScoredPair]


CSV_COLUMNS = (
    "dataset",
    "split",
    "features",
    "weights",
    "matcher",
    "protocol",
    "average",
    "alpha",
    "class",
    "pairs",
    "value",
    "low",
    "high",
)


def to_record(evaluation: Evaluation) -> dict[str, object]:
    """The evaluation by the names of its fields, as `plain` gives it: a mean of nothing is None."""
    return {field.name: plain(getattr(evaluation, field.name)) for field in fields(evaluation)}


def to_csv(evaluations: Iterable[Evaluation]) -> str:
    """One row for each score of the whole and of each class; measures have their name for a protocol."""
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(CSV_COLUMNS)
    for evaluation in evaluations:
        what = (
            evaluation.dataset,
            evaluation.split,
            evaluation.features,
            evaluation.weights or "",
            evaluation.matcher,
        )
        table.writerows((*what, *row) for row in _rows(evaluation))
    return file.getvalue()


def _rows(evaluation: Evaluation) -> Iterable[Sequence[object]]:
    for result in evaluation.results:
        how = (result.protocol, result.average, result.alpha)
        yield (*how, "all", evaluation.pairs, result.pck, *result.interval)
        for name, score in result.per_class.items():
            yield (*how, name, score.pairs, score.pck, *score.interval)
    for measure in evaluation.measures:
        yield (measure.name, "", "", "all", evaluation.pairs, measure.value, *(measure.interval or ("", "")))
        for name, value in measure.per_class.items():
            yield (measure.name, "", "", name, value.pairs, value.value, *value.interval)


def plain(value: object) -> object:
    """A value, or a dataclass of values, as what JSON can hold: None in place of NaN and of what has no end."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return value
