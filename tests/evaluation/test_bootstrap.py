import math
import tracemalloc

import numpy as np
import pytest
from numpy.typing import ArrayLike

from geomatch.evaluation.metrics import bootstrap
from geomatch.evaluation.metrics.bootstrap import (
    area_interval,
    class_mean_intervals,
    paired_difference,
    ratio_intervals,
    resample_weights,
)


def ratio_interval(numerators: ArrayLike, denominators: ArrayLike, **options: float) -> tuple[float, float]:
    """The interval of one score."""
    low, high = ratio_intervals(*(np.reshape(v, (-1, 1)) for v in (numerators, denominators)), **options)[0].tolist()
    return low, high


def class_mean_interval(values: ArrayLike, classes: ArrayLike, **options: float) -> tuple[float, float]:
    """The interval of one score."""
    low, high = class_mean_intervals(np.reshape(values, (-1, 1)), classes, **options)[0].tolist()
    return low, high


def resamples(pairs: int, replicates: int, seed: int) -> list[list[int]]:
    """The pairs drawn in each replicate, written out."""
    rows = np.concatenate(list(resample_weights(pairs, replicates, seed)))
    return [[pair for pair in range(pairs) for _ in range(int(row[pair]))] for row in rows]


def test_resample_weights_are_multinomial() -> None:
    weights = np.concatenate(list(resample_weights(50, 4000)))
    assert weights.shape == (4000, 50)
    assert (weights.sum(axis=1) == 50).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(50), abs=0.08)
    assert weights.var() == pytest.approx(1 - 1 / 50, abs=0.02)
    assert np.cov(weights[:, 0], weights[:, 1])[0, 1] == pytest.approx(-1 / 50, abs=0.05)


def test_resample_weights_ignore_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(resample_weights(37, 100, seed=3)))
    for draws in (1, 37 * 7, 37 * 64):
        monkeypatch.setattr(bootstrap, "_DRAWS_AT_ONCE", draws)
        blocks = list(resample_weights(37, 100, seed=3))
        assert len(blocks) == math.ceil(100 / max(1, draws // 37))
        assert (np.concatenate(blocks) == whole).all()


def test_intervals_depend_on_seed() -> None:
    values, ones = np.random.default_rng(0).random(40), np.ones(40)
    assert ratio_interval(values, ones, seed=5) == ratio_interval(values, ones, seed=5)
    assert ratio_interval(values, ones, seed=5) != ratio_interval(values, ones, seed=6)


def test_resample_weights_memory_bounded_for_spair() -> None:
    correct = np.random.default_rng(0).integers(0, 9, 12_234)
    tracemalloc.start()
    try:
        ratio_interval(correct, np.full(12_234, 8))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100e6


def test_ratio_intervals_equal_loop() -> None:
    rng = np.random.default_rng(1)
    points = rng.integers(0, 20, 30)
    correct = rng.integers(0, points + 1)
    ratios = []
    for drawn in resamples(30, 200, seed=9):
        ratios.append(sum(correct[pair] for pair in drawn) / sum(points[pair] for pair in drawn))
    ratios.sort()
    # 200 values: quantile q lies at index 199 q
    low = ratios[4] + 0.975 * (ratios[5] - ratios[4])
    high = ratios[194] + 0.025 * (ratios[195] - ratios[194])
    assert ratio_interval(correct, points, replicates=200, seed=9) == pytest.approx((low, high))


def test_ratio_intervals_of_several_scores_equal_each_alone() -> None:
    rng = np.random.default_rng(4)
    over, under = rng.random((40, 3)), rng.integers(0, 3, (40, 3))
    alone = [ratio_interval(over[:, column], under[:, column]) for column in range(3)]
    assert ratio_intervals(over, under).tolist() == pytest.approx(np.array(alone))


def test_ratio_interval_is_two_standard_errors() -> None:
    values = np.random.default_rng(2).normal(3, 2, 2000)
    error = values.std() / math.sqrt(2000)
    low, high = ratio_interval(values, np.ones(2000), replicates=4000)
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.1 * error)
    narrow_low, narrow_high = ratio_interval(values, np.ones(2000), replicates=4000, level=0.6827)
    assert narrow_high - narrow_low == pytest.approx(2 * error, rel=0.1)


def test_ratio_intervals_leave_out_empty_replicates() -> None:
    """One pair in three has points, so some replicates have none; in the others the ratio is its own."""
    assert ratio_interval([0, 3, 0], [0, 4, 0]) == (0.75, 0.75)
    for nothing in ([], [0, 0]):
        assert [math.isnan(bound) for bound in ratio_interval(nothing, nothing)] == [True, True]
        assert math.isnan(paired_difference(nothing, nothing, nothing).share_above_zero)


def test_class_mean_interval_of_constant_class() -> None:
    """Within classes nothing varies, so the mean of class means 1 and 0 is 1/2 in every replicate."""
    assert class_mean_interval([1, 0, 0, 0, 0], [7, 2, 2, 2, 2]) == (0.5, 0.5)
    assert math.isnan(class_mean_interval([], [])[0])


def test_class_mean_interval_of_independent_classes() -> None:
    rng = np.random.default_rng(3)
    sizes, spreads = (50, 200, 400), (1.0, 3.0, 0.5)
    classes = rng.permutation(np.repeat([4, 1, 9], sizes))
    values = np.zeros(650)
    variance, mean = 0.0, 0.0
    for label, size, spread in zip((4, 1, 9), sizes, spreads, strict=True):
        drawn = rng.normal(label, spread, size)
        values[classes == label] = drawn
        variance += drawn.var() / size / 9
        mean += drawn.mean() / 3
    error = math.sqrt(variance)
    interval = class_mean_interval(values, classes, replicates=4000)
    assert interval == pytest.approx((mean - 1.96 * error, mean + 1.96 * error), abs=0.15 * error)


def test_paired_difference_equals_loop() -> None:
    rng = np.random.default_rng(4)
    points = rng.integers(1, 4, 12)
    first, second = rng.integers(0, points + 1), rng.integers(0, points + 1)
    differences, above = [], 0.0
    for drawn in resamples(12, 300, seed=2):
        gain = sum(int(second[pair]) - int(first[pair]) for pair in drawn)
        differences.append(gain / sum(points[pair] for pair in drawn))
        above += 1 if gain > 0 else 0.5 if gain == 0 else 0
    found = paired_difference(first, second, points, replicates=300, seed=2)
    assert 0 in differences
    assert found.value == pytest.approx((second.sum() - first.sum()) / points.sum())
    assert (found.low, found.high) == pytest.approx(np.quantile(differences, [0.025, 0.975]).tolist())
    assert found.share_above_zero == pytest.approx(above / 300)


def test_paired_difference_of_ties_and_clear_wins() -> None:
    scores = np.random.default_rng(5).random(25)
    same = paired_difference(scores, scores, np.ones(25))
    assert (same.value, same.low, same.high, same.share_above_zero) == (0, 0, 0, 0.5)
    better = paired_difference(scores, scores + 0.1, np.ones(25))
    assert better.share_above_zero == 1
    assert (better.value, better.low, better.high) == pytest.approx((0.1, 0.1, 0.1))


def test_paired_difference_removes_common_variance() -> None:
    """Hard and easy pairs spread both scores widely, but not a constant gain with little noise."""
    rng = np.random.default_rng(6)
    first = rng.random(200)
    second = first + 0.02 + rng.normal(0, 0.01, 200)
    found = paired_difference(first, second, np.ones(200))
    low, high = ratio_interval(second, np.ones(200))
    assert 0 < found.low < 0.02 < found.high
    assert found.high - found.low < (high - low) / 10


def test_area_interval_equals_replicates_written_out() -> None:
    """Two classes, ratios of sums that may have no denominator, which count 0."""
    rng = np.random.default_rng(3)
    below = rng.integers(0, 2, (9, 4)).astype(float)
    above, weights, classes = rng.random((9, 4)) * below, rng.random(4), np.array(list("aababbaab"))
    members = [np.flatnonzero(classes == name) for name in "ab"]
    generator = np.random.default_rng(0)
    areas = []
    for chosen in members:
        draws = np.concatenate(list(resample_weights(len(chosen), 200, generator)))
        sums = [(row @ above[chosen], row @ below[chosen]) for row in draws]
        areas.append(
            [sum(w * a / b for w, a, b in zip(weights, over, under, strict=True) if b) for over, under in sums]
        )
    expected = np.quantile(np.mean(areas, axis=0), [0.025, 0.975])
    assert area_interval(above, below, weights, classes, replicates=200) == pytest.approx(expected)
    assert np.isnan(area_interval(above[:0], below[:0], weights, classes[:0])).all()
