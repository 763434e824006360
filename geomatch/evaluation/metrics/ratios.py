"""Scores that are weighted sums of ratios, each of two sums over pairs. Pure functions of arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class WeightedRatios:
    """A score that is a sum over M columns: ``sum_m weights_m sum_n above_nm / sum_n below_nm``.

    The area under an mIoU@k curve is one, and so is the mean of PCK at several thresholds.

    above, below: (N, M), a row for each of N pairs. weights: (M,).
    """

    above: NDArray[np.float64]
    below: NDArray[np.float64]
    weights: NDArray[np.float64]

    @classmethod
    def mean(cls, above: NDArray[np.float64], below: NDArray[np.float64]) -> WeightedRatios:
        """The mean of the M ratios."""
        return cls(above, below, np.full(above.shape[1], 1 / above.shape[1]))

    def ratios(self) -> NDArray[np.float64]:
        """The M ratios; 0 where all of ``below`` is."""
        above, below = self.above.sum(axis=0), self.below.sum(axis=0)
        return np.asarray(np.divide(above, below, out=np.zeros_like(above), where=below > 0))

    def of(self, members: NDArray[np.intp]) -> WeightedRatios:
        """The same of some pairs."""
        return WeightedRatios(self.above[members], self.below[members], self.weights)
