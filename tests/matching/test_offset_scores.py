"""Scores of local offsets, against a slow loop."""

import math

import numpy as np
import pytest
import torch

from geomatch.matching.proposal_flow.offset_scores import neighbours_median
from geomatch.matching.proposal_flow.proposal_flow import LocalOffsets, Updates
from tests.matching.box_problems import SIZES, admissible, area, as_regions, centre, problem, scaled


def slow_median(values: list[float]) -> float:
    """20 steps of re-weighted least squares from the mean."""
    median = sum(values) / len(values)
    for _ in range(20):
        weights = [1 / max(abs(value - median), 1e-6) for value in values]
        median = sum(w * value for w, value in zip(weights, values, strict=True)) / sum(weights)
    return median


def slow_local_offsets(a: np.ndarray, b: np.ndarray, s: np.ndarray, *, in_turn: bool = False) -> np.ndarray:
    """in_turn: a row of scores replaces its row of similarities before the next one is computed."""
    s = np.array([[s[i, j] if admissible(a[i], b[j]) else 0.0 for j in range(len(b))] for i in range(len(a))])

    def offset(i: int, j: int) -> tuple[float, float, float]:
        return (*(centre(a[i]) - centre(b[j])).tolist(), area(a[i]) / area(b[j]))

    scores = np.zeros(s.shape)
    for i, box in enumerate(a):
        best = s.max(axis=1)
        overlapping = [
            n for n, other in enumerate(a) if (np.minimum(box[2:], other[2:]) > np.maximum(box[:2], other[:2])).all()
        ]
        matched = [n for n in overlapping if best[n] > 0]
        if not matched:
            s[i] = 0 if in_turn else s[i]
            continue
        offsets = [offset(n, int(s[n].argmax())) for n in matched]
        medians = [slow_median(list(values)) for values in zip(*offsets, strict=True)]
        support = sum(best[n] for n in overlapping) / sum(best)
        for j in range(len(b)):
            x, y, scale = (value - median for value, median in zip(offset(i, j), medians, strict=True))
            scores[i, j] = s[i, j] * math.exp(-0.05 * math.hypot(x, y) - 0.3 * abs(scale)) * support
        if in_turn:
            s[i] = scores[i]
    return scores


@pytest.mark.parametrize("seed", range(4))
def test_offset_scores_equal_a_slow_loop(seed: int) -> None:
    a, b, s = problem(seed)
    expected = slow_local_offsets(scaled(a, SIZES[0]), scaled(b, SIZES[1]), s)
    source, target = as_regions(a, b)
    found = LocalOffsets().scores(torch.from_numpy(s) * source.has_similar_aspect(target), source, target, 1 << 20)
    assert (expected > 0).sum() > 50
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_offset_scores_in_turn_equal_a_slow_loop(seed: int) -> None:
    a, b, s = problem(seed)
    expected = slow_local_offsets(scaled(a, SIZES[0]), scaled(b, SIZES[1]), s, in_turn=True)
    source, target = as_regions(a, b)
    similarity = torch.from_numpy(s) * source.has_similar_aspect(target)
    found = LocalOffsets(updates=Updates.in_turn).scores(similarity, source, target, 1 << 20)
    assert (expected > 0).sum() > 50
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert not np.allclose(expected, LocalOffsets().scores(similarity, source, target, 1 << 20), atol=1e-3)


def test_neighbours_median_is_near_the_true_one() -> None:
    """Odd numbers of members, for which the median is one of them."""
    random = np.random.default_rng(0)
    offsets = torch.from_numpy(random.normal(size=(3, 41))).float() * 20
    around = torch.zeros(41, 41, dtype=torch.bool)
    for row in around:
        row[torch.from_numpy(random.permutation(41)[: 2 * random.integers(2, 20) + 1])] = True
    found = neighbours_median(offsets, around, 1 << 20)
    exact = torch.stack([torch.stack([values[members].median() for members in around]) for values in offsets])
    assert (found - exact).abs().median() < 0.05
    torch.testing.assert_close(neighbours_median(offsets, around, 12 * 41), found, atol=1e-4, rtol=0)
    assert neighbours_median(offsets, torch.zeros_like(around), 1 << 20).abs().max() == 0
