"""The results of an evaluation as plain values, and their forms as JSON and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass


@dataclass(frozen=True)
class ClassScore:
    """PCK of one category or group of categories. interval: 95 % bootstrap over its pairs."""

    pairs: int
    pck: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Result:
    """PCK in [0, 1] under one protocol, average and threshold. interval: 95 % bootstrap over pairs.

    breakdown: the same of the pairs of each difficulty ("viewpoint: hard"), and of the geometry-aware keypoints alone.
    """

    protocol: str
    average: str
    alpha: float
    pck: float
    interval: tuple[float, float]
    per_class: dict[str, ClassScore]
    breakdown: dict[str, ClassScore] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """A mean over pairs. pairs: how many enter it. value: NaN if none does. interval: 95 % bootstrap over pairs, NaN if
    it is not known."""

    pairs: int
    value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Measure:
    """A score other than PCK: of flow, label transfer, regions or confidence.

    about: what is measured, in words.
    unit: "share" in [0, 1], "pixels", "boxes" (sides of the object's box), or "ranks" (an area over ranks).
    better: "higher" or "lower".
    per_pair: the values of the pairs, in the order of ``Evaluation.pair_list`` (None where a pair has none); empty for
        measures pooled over all points.
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
    """A named curve of the report: y over x, and a ``reference`` over the same x.

    "pck": x is alpha. "sparsification": x is the share of matches dropped, least confident first; y is the share of
    wrong matches among the rest; the reference drops wrong matches first. "calibration": x is the mean confidence of a
    bin, y its share of correct points, weights its share of all points. "pcr": x is tau. "miou": x is k.
    """

    name: str
    x: list[float]
    y: list[float]
    reference: list[float] | None = None
    weights: list[float] | None = None


@dataclass(frozen=True)
class ScoredPair:
    """One pair of an evaluation and its number of correct points.

    correct: protocol -> alpha as text ("0.1") -> number of correct points.
    """

    source: str
    target: str
    category: str
    group: str | None
    points: int
    correct: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of one selection of features and matcher on one split of a benchmark.

    pairs, of: the number of scored pairs, and of all usable pairs of the split (larger if --limit was given).
    weights: SHA-256 of the weights, None for features without weights.
    skipped: why each unusable pair was left out.
    reused: the number of pairs whose predictions were cached by an earlier run.
    extractions: the number of images whose features were computed.
    seconds: the duration of each stage.
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


def alpha_text(alpha: float) -> str:
    """A threshold with two decimals, or more if it has more.

    >>> alpha_text(0.1), alpha_text(1 / 256)
    ('0.10', '0.00391')
    """
    return max(f"{alpha:.2f}", f"{alpha:.3g}", key=len)


def to_record(evaluation: Evaluation) -> dict[str, object]:
    """The evaluation as a JSON object; NaN becomes None."""
    return {each.name: plain(getattr(evaluation, each.name)) for each in fields(evaluation)}


def to_csv(evaluations: Iterable[Evaluation]) -> str:
    """A row for each score, overall and per class; a measure has its name in the column ``protocol``."""
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(CSV_COLUMNS)
    for evaluation in evaluations:
        selection = (
            evaluation.dataset,
            evaluation.split,
            evaluation.features,
            evaluation.weights or "",
            evaluation.matcher,
        )
        table.writerows((*selection, *row) for row in _rows(evaluation))
    return file.getvalue()


def _rows(evaluation: Evaluation) -> Iterable[Sequence[object]]:
    for result in evaluation.results:
        how = (result.protocol, result.average, result.alpha)
        yield (*how, "all", evaluation.pairs, result.pck, *result.interval)
        for name, score in (result.per_class | result.breakdown).items():
            yield (*how, name, score.pairs, score.pck, *score.interval)
    for measure in evaluation.measures:
        yield (measure.name, "", "", "all", evaluation.pairs, measure.value, *_ends(measure.interval))
        for name, value in measure.per_class.items():
            yield (measure.name, "", "", name, value.pairs, value.value, *_ends(value.interval))


def _ends(interval: tuple[float, float] | None) -> Sequence[object]:
    """Both ends of an interval, as texts without content if it is not known."""
    return ("", "") if interval is None or not all(map(math.isfinite, interval)) else interval


def plain(value: object) -> object:
    """A value, or a dataclass of values, in the types of JSON; None replaces NaN and infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    return value
