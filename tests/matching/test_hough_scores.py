"""Votes of boxes, and scores, against a slow loop."""

import math

import numpy as np
import pytest
import torch

from geomatch.matching.proposal_flow.hough_scores import hough_bins, hough_votes, smooth_votes
from geomatch.matching.proposal_flow.proposal_flow import ProbabilisticHough
from tests.matching.box_problems import SIZES, admissible, area, as_regions, problem, scaled


def slow_hough(a: np.ndarray, b: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Votes and scores z, pair after pair."""
    (height_a, width_a), (height_b, width_b) = (np.array(size) * 300 / max(size) for size in SIZES)
    cell = max(math.sqrt(4 * width_b * height_b / 8000), 5)
    columns, rows = round(2 * width_b / cell), round(2 * height_b / cell)
    votes, bins = np.zeros((20, rows, columns)), {}
    for i, box in enumerate(a):
        best: dict[tuple[int, int, int], float] = {}
        for j, partner in enumerate(b):
            if not admissible(box, partner) or s[i, j] == 0:
                continue
            x = partner[0] + (width_a - box[0]) / (box[2] - box[0]) * (partner[2] - partner[0])
            y = partner[1] + (height_a - box[1]) / (box[3] - box[1]) * (partner[3] - partner[1])
            scale = math.log2(area(partner) / area(box))
            at = (
                math.floor((scale + 4) / 8 * 20),
                math.floor(y / (2 * height_b) * rows),
                math.floor(x / (2 * width_b) * columns),
            )
            if all(0 <= k < length for k, length in zip(at, votes.shape, strict=True)):
                bins[i, j] = at
                best[at] = max(best.get(at, 0), float(s[i, j]))
        for at, vote in best.items():
            votes[at] += vote
    scores = np.zeros(s.shape)
    for (i, j), at in bins.items():
        smooth = weight = 0.0
        for shift in np.ndindex(5, 5, 5):
            kernel = math.exp(-sum((k - 2) ** 2 for k in shift) / (2 * (5 / (4 * math.sqrt(2 * math.log(2)))) ** 2))
            near = tuple(k + step - 2 for k, step in zip(at, shift, strict=True))
            weight += kernel
            if all(0 <= k < length for k, length in zip(near, votes.shape, strict=True)):
                smooth += kernel * votes[near]
        scores[i, j] = s[i, j] * smooth / weight
    return votes, scores


@pytest.mark.parametrize("seed", range(4))
def test_hough_votes_and_scores_equal_a_slow_loop(seed: int) -> None:
    a, b, s = problem(seed)
    votes, scores = slow_hough(scaled(a, SIZES[0]), scaled(b, SIZES[1]), s)
    source, target = as_regions(a, b)
    similarity = torch.from_numpy(s) * source.has_similar_aspect(target)
    bins, shape = hough_bins(source, target)
    found = hough_votes(similarity, torch.where(similarity > 0, bins, -1), shape)
    assert (votes > 0).sum() > 50
    np.testing.assert_allclose(found, votes, atol=1e-5)
    found = ProbabilisticHough().scores(similarity, source, target, 1 << 20)
    np.testing.assert_allclose(found, scores, atol=1e-5)


def test_hough_votes_count_a_box_once_a_bin() -> None:
    similarity, bins = torch.tensor([[0.2, 0.7, 0.4], [0.5, 0.9, 0.1]]), torch.tensor([[3, 3, 0], [3, -1, 5]])
    votes = hough_votes(similarity, bins, (1, 2, 3))
    torch.testing.assert_close(votes, torch.tensor([[[0.4, 0, 0], [0.7 + 0.5, 0, 0.1]]]))


def test_smooth_votes_keeps_the_sum_over_five_bins() -> None:
    votes = torch.zeros(9, 9, 9)
    votes[4, 4, 4] = 8
    found = smooth_votes(votes)
    assert float(found.sum()) == pytest.approx(8)
    assert (found[2:7, 2:7, 2:7] > 0).all()
    assert int((found > 0).sum()) == 125
    assert float(found[4, 4, 5] / found[4, 4, 4]) == pytest.approx(math.exp(-0.5 / 1.0617**2), abs=1e-4)
