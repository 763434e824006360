import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geomatch.evaluation.metrics.calibration import (
    FRACTIONS,
    area_under_sparsification_error,
    calibration,
    sparsification,
)


def test_sparsification_drops_least_confident_first() -> None:
    errors, confidence = np.array([1.0, 10.0, 4.0, 2.0]), np.array([0.9, 0.1, 0.2, 0.7])
    curve = sparsification(errors, confidence, (0, 0.25, 0.5, 0.75))
    assert curve == pytest.approx([17 / 4, 7 / 3, 3 / 2, 1])


def test_sparsification_splits_match_at_the_cut() -> None:
    errors, confidence = np.array([1.0, 10.0, 4.0]), np.array([3.0, 1.0, 2.0])
    assert sparsification(errors, confidence, [0.5]) == pytest.approx([(1 + 4 / 2) / 1.5])


def test_sparsification_ranks_nan_confidence_last() -> None:
    errors, confidence = np.array([1.0, 10.0, 4.0, 2.0]), np.array([0.9, np.nan, -np.inf, 0.7])
    assert sparsification(errors, confidence, [0.25]) == pytest.approx([7 / 3])


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2)), min_size=1, max_size=6))
def test_sparsification_averages_over_ties(matches: list[tuple[int, int]]) -> None:
    """Against all permutations, dropping whole matches one at a time."""
    errors, confidence = np.array(matches, float).T
    count = len(matches)
    curves = [
        [np.mean([errors[k] for k in order[dropped:]]) for dropped in range(count)]
        for order in itertools.permutations(range(count))
        if all(confidence[a] <= confidence[b] for a, b in itertools.pairwise(order))
    ]
    fractions = [dropped / count for dropped in range(count)]
    assert sparsification(errors, confidence, fractions) == pytest.approx(np.mean(curves, axis=0))


def test_sparsification_ignores_order() -> None:
    rng = np.random.default_rng(0)
    errors, confidence = rng.exponential(size=300), rng.integers(0, 5, 300) / 5
    shuffle = rng.permutation(300)
    assert sparsification(errors[shuffle], confidence[shuffle]) == pytest.approx(sparsification(errors, confidence))


def test_ause_of_oracle_and_reverse() -> None:
    errors = np.random.default_rng(1).exponential(size=200)
    confidences = np.random.default_rng(2).random((20, 200))
    areas = [area_under_sparsification_error(errors, confidence) for confidence in confidences]
    assert area_under_sparsification_error(errors, 1 / (1 + errors)) == pytest.approx(0)
    assert 0 < min(areas) < max(areas) < area_under_sparsification_error(errors, errors)


def test_ause_of_uninformative_confidence() -> None:
    """Errors 0 and 1 in equal number: constant 1/2 against an oracle that keeps max(0, 1/2 - dropped) of errors."""
    errors = np.repeat([0.0, 1.0], 50)
    gaps = [0.5 - max(0.0, 0.5 - fraction) / (1 - fraction) for fraction in FRACTIONS]
    assert area_under_sparsification_error(errors, np.ones(100)) == pytest.approx(sum(gaps) / 20)


def test_measures_of_no_matches_are_nan() -> None:
    assert np.isnan(sparsification(np.zeros(0), np.zeros(0))).tolist() == [True] * 20
    assert math.isnan(area_under_sparsification_error(np.zeros(0), np.zeros(0)))
    assert math.isnan(calibration(np.zeros(0, bool), np.zeros(0)).expected_calibration_error)


def test_calibration_bins_are_closed_above() -> None:
    result = calibration(np.array([False, True, True, False, True]), np.array([0.0, 0.25, 0.75, 0.8, 1.0]), bins=4)
    assert result.confidence == pytest.approx([0.125, 0.75, 0.9])
    assert result.correct == pytest.approx([0.5, 1, 0.5])
    assert result.share == pytest.approx([0.4, 0.2, 0.4])
    assert result.expected_calibration_error == pytest.approx(0.4 * 0.375 + 0.2 * 0.25 + 0.4 * 0.4)


def test_calibration_equals_loop_over_bins() -> None:
    rng = np.random.default_rng(3)
    confidence = rng.random(400) ** 3
    correct = rng.random(400) < confidence**2
    error, filled = 0.0, 0
    for m in range(1, 16):
        inside = [k for k in range(400) if (m - 1) / 15 < confidence[k] <= m / 15]
        if inside:
            filled += 1
            accuracy = sum(bool(correct[k]) for k in inside) / len(inside)
            error += len(inside) / 400 * abs(accuracy - sum(confidence[k] for k in inside) / len(inside))
    result = calibration(correct, confidence)
    assert len(result.share) == filled
    assert result.share.sum() == pytest.approx(1)
    assert result.expected_calibration_error == pytest.approx(error)


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan])
def test_calibration_refuses_non_probability(wrong: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        calibration(np.array([True]), np.array([wrong]))
