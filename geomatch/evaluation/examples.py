"""Pictures of the best, median and worst pairs of an evaluation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geomatch.annotations import Points
from geomatch.datasets.pairs import AnnotatedPair, PairDataset
from geomatch.evaluation.report import PairPicture
from geomatch.evaluation.runner import Outcome
from geomatch.evaluation.scoreboard import CONFIDENCE_ALPHA
from geomatch.visualize.keypoint_matches import draw_keypoint_matches

PAIRS_PER_RANK = 3


def draw_examples(dataset: PairDataset, outcome: Outcome) -> list[PairPicture]:
    """Pictures of PAIRS_PER_RANK pairs of each rank, ordered by PCK at CONFIDENCE_ALPHA under protocol ``geomatch``.

    Pairs without keypoints are left out. Of pairs with equal PCK, those with more points are more extreme.
    Raises InputError if an image cannot be read.
    """
    correct = {
        index: outcome.relative_errors[index] <= CONFIDENCE_ALPHA
        for index, pair in enumerate(dataset.pairs)
        if len(pair.source_points)
    }

    def rank(index: int) -> tuple[float, int, int, int]:
        found = correct[index]
        return -found.mean(), -found.sum(), len(found), index

    return [
        _draw(name, dataset.pairs[index], outcome.forward[index].astype(np.float64), correct[index])
        for name, chosen in _choose(sorted(correct, key=rank)).items()
        for index in chosen
    ]


def _choose(order: list[int]) -> dict[str, list[int]]:
    """The first, middle and last of ``order``, without repetition; the worst comes first."""
    count = min(PAIRS_PER_RANK, -(-len(order) // 3))
    best, worst = order[:count], order[::-1][: min(count, len(order) - count)]
    rest = order[len(best) : len(order) - len(worst)]
    middle = max(0, (len(rest) - count) // 2)
    return {"best": best, "median": rest[middle : middle + count], "worst": worst}


def _draw(rank: str, pair: AnnotatedPair, predicted: Points, correct: NDArray[np.bool_]) -> PairPicture:
    return PairPicture(
        rank=rank,
        source=pair.source.name,
        target=pair.target.name,
        category=pair.category,
        correct=int(correct.sum()),
        points=len(correct),
        picture=draw_keypoint_matches(
            pair.source.load(), pair.target.load(), pair.source_points, predicted, pair.target_points, correct
        ),
        alpha=CONFIDENCE_ALPHA,
    )
