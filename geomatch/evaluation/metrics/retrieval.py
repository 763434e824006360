"""Measures of ranking by a score. Pure functions of arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def average_precision(scores: NDArray[np.floating], relevant: NDArray[np.bool_]) -> float:
    """The mean, over relevant items, of the precision among all items with at least their score.

    scores, relevant: (N,). Items with equal scores enter together, so the order of the input does not matter. NaN if no
    item is relevant.

    >>> average_precision(np.array([0.9, 0.5, 0.1]), np.array([True, False, True]))
    0.8333333333333333
    """
    if not relevant.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(relevant[order])
    # The last index of each run of equal scores.
    last = np.searchsorted(-scores[order], -scores[order], side="right") - 1
    return float((hits[last] / (last + 1))[relevant[order]].mean())
