"""Does one evaluation beat another: the paired bootstrap over the pairs that both scored."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomatch.errors import InputError
from geomatch.evaluation.metrics.bootstrap import Difference, paired_difference
from geomatch.evaluation.protocols import Average

Values = NDArray[np.float64]

LARGEST = 1e12
"""Of what is counted or measured: far beyond it, and its sums are finite."""


@dataclass(frozen=True)
class Scored:
    """An evaluation as read back from its JSON: what `compare` needs of it.

    label: features and matcher. pairs: what identifies each pair. points: (N,). correct: right points of each pair,
    (N,), by protocol, average and alpha. measured: values of each pair, (N,) with NaN, and which is better, by name.
    """

    label: str
    dataset: str
    pairs: list[tuple[str, str, str]]
    points: Values
    correct: Mapping[tuple[str, Average, float], Values]
    measured: Mapping[str, tuple[Values, str]]


@dataclass(frozen=True)
class Comparison:
    """One score of both. better: "first", "second", or "undecided" if the interval of the difference holds zero."""

    score: str
    first: float
    second: float
    difference: Difference
    better: str


def parse_scored(text: str, name: str) -> Scored:
    """Read what ``geomatch eval --json`` printed of one selection. Raises InputError, naming ``name``, for all else."""
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) != 1:
        raise InputError(f"{name}: holds {len(lines)} lines; give the JSON of one selection of features and matcher")
    try:
        return _scored(json.loads(lines[0]))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"{name}: not what 'geomatch eval --json' prints ({error!r})") from error


def compare(first: Scored, second: Scored) -> list[Comparison]:
    """Every score that both have, and by how much the second is above. Raises InputError if their pairs differ."""
    if first.dataset != second.dataset:
        raise InputError(f"cannot compare scores on {first.dataset} with scores on {second.dataset}")
    if first.pairs != second.pairs or (first.points != second.points).any():
        raise InputError(
            f"cannot compare: the first scored {len(first.pairs)} pairs and the second {len(second.pairs)}, "
            "and they are not the same"
        )
    return [
        *(_compare_pck(key, first, second) for key in first.correct if key in second.correct),
        *(_compare_measure(name, first, second) for name in first.measured if name in second.measured),
    ]


def _scored(record: dict[str, Any]) -> Scored:
    pairs = record["pair_list"]
    points = _numbers([pair["points"] for pair in pairs])
    correct = {
        (_name(result["protocol"]), Average(result["average"]), float(result["alpha"])): _numbers(
            [pair["correct"].get(result["protocol"], {}).get(f"{result['alpha']:g}", 0) for pair in pairs]
        )
        for result in record["results"]
    }
    if not all(((points >= counts) & (counts >= 0)).all() for counts in (points, *correct.values())):
        raise ValueError("a pair has more right points than points")
    measured = {
        _name(measure["name"]): (_numbers(measure["per_pair"], missing=True), _direction(measure["better"]))
        for measure in record["measures"]
        if len(measure["per_pair"]) == len(pairs)
    }
    return Scored(
        label=f"{_name(record['features'])} + {_name(record['matcher'])}",
        dataset=f"{_name(record['dataset'])} {_name(record['split'])}",
        pairs=[(_text(pair["source"]), _text(pair["target"]), _text(pair["category"])) for pair in pairs],
        points=points,
        correct=correct,
        measured=measured,
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _name(value: object) -> str:
    if not (name := _text(value)).isprintable():
        raise ValueError(f"{value!r:.40} cannot be printed")
    return name


def _direction(value: object) -> str:
    if value not in ("higher", "lower"):
        raise ValueError(f"{value!r:.40} is neither higher nor lower")
    return str(value)


def _numbers(values: list[object], *, missing: bool = False) -> Values:
    """(N,) float64, NaN where one is missing, if any may be. Raises TypeError or ValueError for what is no number."""
    for value in values:
        if not isinstance(value, int | float) and not (missing and value is None):
            raise TypeError(f"{value!r:.40} is no number")
    numbers = np.array(values, np.float64)
    if not all(missing if math.isnan(number) else abs(number) <= LARGEST for number in numbers):
        raise ValueError("there are numbers that nothing counts or measures")
    return numbers


def _compare_pck(key: tuple[str, Average, float], first: Scored, second: Scored) -> Comparison:
    protocol, average, alpha = key
    weights = _pair_weights(average, first)
    a, b = (each.correct[key] / np.maximum(each.points, 1) * weights for each in (first, second))
    return _comparison(f"{protocol}, {average}, PCK@{alpha:.2f}", a, b, weights, "higher")


def _pair_weights(average: Average, scored: Scored) -> Values:
    """What a pair counts: its points, or 1, or its part of its class."""
    if average == Average.per_point:
        return scored.points
    used = (scored.points > 0).astype(np.float64)
    if average == Average.per_class:
        _, index = np.unique([category for *_, category in scored.pairs], return_inverse=True)
        return np.asarray(used / np.maximum(np.bincount(index, weights=used), 1)[index])
    return used


def _compare_measure(name: str, first: Scored, second: Scored) -> Comparison:
    (a, better), (b, _) = first.measured[name], second.measured[name]
    both = np.isfinite(a) & np.isfinite(b)
    return _comparison(name, a[both], b[both], np.ones(np.count_nonzero(both)), better)


def _comparison(score: str, first: Values, second: Values, weights: Values, better: str) -> Comparison:
    difference = paired_difference(first, second, weights)
    sign = 1 if better == "higher" else -1
    low, high = sorted((sign * difference.low, sign * difference.high))
    verdict = "second" if low > 0 else "first" if high < 0 else "undecided"
    total = weights.sum() or np.nan
    return Comparison(score, float(first.sum() / total), float(second.sum() / total), difference, verdict)
