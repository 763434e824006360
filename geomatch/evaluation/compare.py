"""Compare two evaluations by the paired bootstrap over their pairs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from geomatch.errors import InputError
from geomatch.evaluation.metrics.bootstrap import Difference, paired_difference
from geomatch.evaluation.prediction import Values
from geomatch.evaluation.protocols import Average
from geomatch.evaluation.results import alpha_text

LARGEST = 1e12
"""The largest number accepted from a file; sums of such numbers stay finite."""


@dataclass(frozen=True)
class Scored:
    """An evaluation parsed from JSON.

    label: features and matcher.
    pairs: (source, target, category) of the N pairs.
    points: (N,) the number of points of each pair.
    correct: (N,) the number of correct points of each pair, by protocol, average and alpha.
    measured: by name, the values (N,) of the pairs (NaN where missing) and whether "higher" or "lower" is better.
    """

    label: str
    dataset: str
    pairs: list[tuple[str, str, str]]
    points: Values
    correct: Mapping[tuple[str, Average, float], Values]
    measured: Mapping[str, tuple[Values, str]]


@dataclass(frozen=True)
class Comparison:
    """One score of both evaluations.

    better: "first", "second", or "undecided" if the interval of the difference contains zero.
    """

    score: str
    first: float
    second: float
    difference: Difference
    better: str


def parse_scored(text: str, name: str) -> Scored:
    """Parse the output of ``geomatch eval --json`` for one selection. Raises InputError, naming ``name``."""
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) != 1:
        raise InputError(f"{name}: has {len(lines)} lines; give the JSON of one selection of features and matcher")
    try:
        record = json.loads(lines[0])
        if not isinstance(record, dict):
            raise ValueError("it is no JSON object")
        return _scored(record)
    except KeyError as error:
        raise InputError(f"{name}: not the output of 'geomatch eval --json': it lacks {error}") from error
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"{name}: not the output of 'geomatch eval --json' ({error})") from error


def compare(first: Scored, second: Scored) -> list[Comparison]:
    """Compare every score that both evaluations have. Raises InputError if their pairs differ."""
    if first.dataset != second.dataset:
        raise InputError(f"cannot compare scores on {first.dataset} with scores on {second.dataset}")
    if first.pairs != second.pairs or (first.points != second.points).any():
        raise InputError(
            f"cannot compare: the first scored {len(first.pairs)} pairs, the second {len(second.pairs)}, and they "
            "differ; evaluate both on the same pairs"
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
        raise ValueError("a pair has more correct points than points")
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
        raise TypeError(f"{value!r:.40} is not text")
    return value


def _name(value: object) -> str:
    if not (name := _text(value)).isprintable():
        raise ValueError(f"{value!r:.40} cannot be printed")
    return name


def _direction(value: object) -> str:
    if value not in ("higher", "lower"):
        raise ValueError(f"{value!r:.40} is neither 'higher' nor 'lower'")
    return str(value)


def _numbers(values: list[object], *, missing: bool = False) -> Values:
    """Values as (N,) float64; None becomes NaN if ``missing``. Raises TypeError or ValueError for all else."""
    for value in values:
        if not isinstance(value, int | float) and not (missing and value is None):
            raise TypeError(f"{value!r:.40} is not a number")
    numbers = np.array(values, np.float64)
    if not all(missing if math.isnan(number) else abs(number) <= LARGEST for number in numbers):
        raise ValueError("there are infinite or absurdly large numbers")
    return numbers


def _compare_pck(key: tuple[str, Average, float], first: Scored, second: Scored) -> Comparison:
    protocol, average, alpha = key
    weights = _pair_weights(average, first)
    a, b = (each.correct[key] / np.maximum(each.points, 1) * weights for each in (first, second))
    return _comparison(f"{protocol}, {average}, PCK@{alpha_text(alpha)}", a, b, weights, "higher")


def _pair_weights(average: Average, scored: Scored) -> Values:
    """The weight (N,) of each pair: its points, or 1, or its share of the pairs or points of its class."""
    pooled = average in (Average.per_point, Average.per_class_pooled)
    weights = scored.points if pooled else (scored.points > 0).astype(np.float64)
    if average in (Average.per_class, Average.per_class_pooled):
        _, index = np.unique([category for *_, category in scored.pairs], return_inverse=True)
        return np.asarray(weights / np.maximum(np.bincount(index, weights=weights), 1)[index])
    return weights


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
