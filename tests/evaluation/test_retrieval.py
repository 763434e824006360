"""Average precision by hand and by definition."""

import math

import numpy as np

from geomatch.evaluation.metrics.retrieval import average_precision


def test_average_precision_by_hand() -> None:
    # Ranked: right, wrong, right, wrong, right: (1/1 + 2/3 + 3/5) / 3.
    scores = np.array([0.1, 0.9, 0.5, 0.7, 0.3])
    relevant = np.array([True, True, True, False, False])
    assert math.isclose(average_precision(scores, relevant), (1 + 2 / 3 + 3 / 5) / 3)


def test_average_precision_of_perfect_and_tied_scores() -> None:
    assert average_precision(np.array([3.0, 2.0, 1.0]), np.array([True, True, False])) == 1
    for relevant in ([True, False, False, False], [False, False, True, False]):
        assert average_precision(np.zeros(4), np.array(relevant)) == 0.25


def test_average_precision_equals_sum_over_recall() -> None:
    random = np.random.default_rng(0)
    scores, relevant = random.integers(0, 12, 60).astype(float), random.random(60) < 0.3
    expected, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        taken = relevant[scores >= threshold]
        gained = taken.sum() / relevant.sum() - recall
        expected, recall = expected + gained * taken.mean(), recall + gained
    assert math.isclose(average_precision(scores, relevant), expected)


def test_average_precision_without_relevant_is_nan() -> None:
    assert math.isnan(average_precision(np.ones(3), np.zeros(3, bool)))
