"""The best, the median and the worst pairs of an evaluation, drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geomatch.annotations import Points
from geomatch.datasets.pairs import AnnotatedPair, PairDataset
from geomatch.evaluation.report import PairPicture
from geomatch.evaluation.runner import Outcome
from geomatch.evaluation.scoreboard import CONFIDENCE_ALPHA
from geomatch.visualize.keypoint_matches import draw_keypoint_matches

OF_EACH = 3


def draw_examples(dataset: PairDataset, outcome: Outcome) -> list[PairPicture]:
    """Pictures of OF_EACH pairs of each rank, by the share of points right at CONFIDENCE_ALPHA, house protocol.

    Pairs without keypoints are not drawn; of equally good pairs the one with more points is the better, or the worse.
    Raises InputError if an image cannot be read.
    """
    right = {
        index: outcome.relative_errors[index] <= CONFIDENCE_ALPHA
        for index, pair in enumerate(dataset.pairs)
        if len(pair.source_points)
    }
    best_first = sorted(right, key=lambda index: (-right[index].mean(), -right[index].sum(), len(right[index]), index))
    return [
        _picture(rank, dataset.pairs[index], outcome.forward[index].astype(np.float64), right[index])
        for rank, chosen in _ranked(best_first).items()
        for index in chosen
    ]


def _ranked(order: list[int]) -> dict[str, list[int]]:
    """The first, middle and last of what stands in order, each once; the last counted from the end."""
    count = min(OF_EACH, -(-len(order) // 3))
    best, worst = order[:count], order[::-1][: min(count, len(order) - count)]
    rest = order[len(best) : len(order) - len(worst)]
    middle = max(0, (len(rest) - count) // 2)
    return {"best": best, "median": rest[middle : middle + count], "worst": worst}


def _picture(rank: str, pair: AnnotatedPair, predicted: Points, right: NDArray[np.bool_]) -> PairPicture:
    return PairPicture(
        rank=rank,
        source=pair.source.name,
        target=pair.target.name,
        category=pair.category,
        correct=int(right.sum()),
        points=len(right),
        picture=draw_keypoint_matches(
            pair.source.load(), pair.target.load(), pair.source_points, predicted, pair.target_points, right
        ),
        alpha=CONFIDENCE_ALPHA,
    )
