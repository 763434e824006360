"""How well a score tells what has a label from what has not, as pure functions of arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def average_precision(scores: NDArray[np.floating], relevant: NDArray[np.bool_]) -> float:
    """The mean, over what is relevant, of the precision among all that score at least as much.

    scores, relevant: (N,). With equal scores nothing is ranked above the other: they all count at once, so the order
    of the input does not matter. NaN if nothing is relevant.
    """
    if not relevant.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(relevant[order])
    # The last place of each run of equal scores.
    last = np.searchsorted(-scores[order], -scores[order], side="right") - 1
    return float((hits[last] / (last + 1))[relevant[order]].mean())
