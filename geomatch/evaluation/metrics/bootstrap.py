"""Confidence intervals of scores: percentile bootstrap over pairs (Efron, 1979).

A replicate draws as many pairs as there are, with replacement, and computes the score again; the interval is between
two percentiles of the replicates. Results depend on the seed only. Memory is bounded for any number of replicates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_DRAWS_AT_ONCE = 1 << 20
"""The number of pairs drawn per block of replicates: 8 bytes each, in a few copies."""


@dataclass(frozen=True)
class Difference:
    """The difference of two scores on the same pairs.

    value: on all pairs. low, high: its bootstrap interval.
    share_above_zero: the share of replicates with a positive difference; a difference of zero counts half.
    """

    value: float
    low: float
    high: float
    share_above_zero: float


def resample_weights(
    pairs: int, replicates: int = 1000, seed: int | np.random.Generator = 0
) -> Iterator[NDArray[np.float64]]:
    """How often each pair is drawn in each replicate: blocks (r, pairs) float64 of counts, ``replicates`` rows in all.

    Each row is multinomial: ``pairs`` draws with equal probability. A block takes at most a few tens of MiB, or one
    row; its size does not change the numbers. ``seed`` may be a generator, which several calls can share.
    """
    generator = np.random.default_rng(seed)
    rows = max(1, _DRAWS_AT_ONCE // max(pairs, 1))
    for start in range(0, replicates, rows):
        shape = min(rows, replicates - start), pairs
        drawn = generator.integers(pairs, size=shape) + pairs * np.arange(shape[0])[:, None]
        yield np.bincount(drawn.ravel(), minlength=shape[0] * pairs).reshape(shape).astype(np.float64)


def ratio_intervals(
    numerators: ArrayLike, denominators: ArrayLike, replicates: int = 1000, seed: int = 0, level: float = 0.95
) -> NDArray[np.float64]:
    """Intervals of M scores ``sum numerators / sum denominators`` over resampled pairs.

    Per image, the numerator of a pair is its score and its denominator 1; per point, they are its correct keypoints and
    all its keypoints. All M scores use the same draws.

    Args:
        numerators, denominators: (N, M).
        replicates, seed: of the bootstrap.
        level: the probability of the interval.

    Returns:
        (M, 2), low and high. Replicates whose denominators sum to 0 are left out; NaN if none remains.
    """
    return _percentile_intervals(_replicated_ratios(numerators, denominators, replicates, seed), level)


def class_mean_intervals(
    values: ArrayLike,
    classes: ArrayLike,
    replicates: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    *,
    denominators: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Intervals of the mean over classes of the class means; pairs are resampled within their class.

    Args:
        values: (N, M), M scores per pair.
        classes: (N,), the class of each pair, of any sortable type.
        denominators: (N, M), by default 1: the mean of a class is ``sum values / sum denominators`` over its pairs.
        replicates, seed: of the bootstrap.
        level: the probability of the interval.

    Returns:
        (M, 2), low and high; NaN without pairs.
    """
    scores, labels = np.asarray(values, np.float64), np.asarray(classes)
    weights = np.ones_like(scores) if denominators is None else np.asarray(denominators, np.float64)
    generator = np.random.default_rng(seed)
    members = [labels == label for label in np.unique(labels)]
    means = [_replicated_ratios(scores[each], weights[each], replicates, generator) for each in members]
    return _percentile_intervals(np.mean(means, axis=0) if means else np.zeros((0, scores.shape[1])), level)


def area_interval(
    above: ArrayLike,
    below: ArrayLike,
    weights: ArrayLike,
    classes: ArrayLike,
    replicates: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> NDArray[np.float64]:
    """The interval of the mean over classes of ``sum_m weights_m (sum above_m / sum below_m)``.

    Pairs are resampled within their class; a ratio whose denominator is 0 counts 0.

    Args:
        above, below: (N, M), M ratios of sums over N pairs. weights: (M,).
        classes: (N,), the class of each pair, of any sortable type.
        replicates, seed: of the bootstrap.
        level: the probability of the interval.

    Returns:
        (2,), low and high; NaN without pairs.
    """
    over, under, labels = np.asarray(above, np.float64), np.asarray(below, np.float64), np.asarray(classes)
    generator = np.random.default_rng(seed)
    areas = [
        np.nan_to_num(_replicated_ratios(over[members], under[members], replicates, generator)) @ np.asarray(weights)
        for members in (labels == label for label in np.unique(labels))
    ]
    means = np.mean(areas, axis=0)[:, None] if areas else np.zeros((0, 1))
    return np.asarray(_percentile_intervals(means, level)[0])


def paired_difference(
    first_numerators: ArrayLike,
    second_numerators: ArrayLike,
    denominators: ArrayLike,
    replicates: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Difference:
    """``sum (second - first) / sum denominators`` over pairs, with its interval; both are resampled on the same pairs.

    Args:
        first_numerators, second_numerators, denominators: (N,), as for `ratio_intervals`.
        replicates, seed: of the bootstrap.
        level: the probability of the interval.

    Returns:
        The difference; NaN where `ratio_intervals` is NaN.
    """
    gains = np.asarray(second_numerators, np.float64) - np.asarray(first_numerators, np.float64)
    counts = np.asarray(denominators, np.float64)
    total = float(counts.sum())
    replicated = _replicated_ratios(gains[:, None], counts[:, None], replicates, seed)
    low, high = _percentile_intervals(replicated, level)[0].tolist()
    defined = replicated[~np.isnan(replicated)]
    above = float(((np.sign(defined) + 1) / 2).mean()) if len(defined) else float("nan")
    return Difference(float(gains.sum() / total) if total else float("nan"), low, high, above)


def _replicated_ratios(
    numerators: ArrayLike, denominators: ArrayLike, replicates: int, seed: int | np.random.Generator
) -> NDArray[np.float64]:
    """The ratios of sums in each replicate, (replicates, M), NaN where denominators sum to 0; (0, M) without pairs."""
    over, under = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    if len(over) == 0:
        return np.zeros((0, over.shape[1]))
    columns = np.concatenate((over, under), axis=1)
    sums = np.concatenate([weights @ columns for weights in resample_weights(len(columns), replicates, seed)])
    above, below = np.split(sums, 2, axis=1)
    return np.asarray(np.divide(above, below, out=np.full_like(above, np.nan), where=below != 0))


def _percentile_intervals(replicated: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """(replicates, M) to (M, 2), ignoring NaN."""
    shares = ((1 - level) / 2, (1 + level) / 2)
    columns = [column[~np.isnan(column)] for column in replicated.T]
    return np.array([np.quantile(column, shares) if len(column) else (np.nan, np.nan) for column in columns])
