"""Measures of confidence: how well it ranks errors, and whether it is a probability. Pure functions of arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

FRACTIONS: Final = tuple(step / 20 for step in range(20))
"""The shares of matches dropped along a sparsification curve: 0, .05, ... .95."""


def sparsification(
    errors: NDArray[np.floating], confidence: NDArray[np.floating], fractions: ArrayLike = FRACTIONS
) -> NDArray[np.float64]:
    """The mean error of the matches that remain after the least confident ones are dropped.

    For matches with equal confidence, the value is the expectation over all orders of dropping them: the sum of the
    remaining errors is linear in their number. A match at the cut counts partly.

    Args:
        errors: (N,).
        confidence: (N,); NaN ranks below all numbers.
        fractions: (F,), the shares dropped, in [0, 1).

    Returns:
        (F,) float64 in the unit of ``errors``; NaN for N = 0.

    >>> sparsification(np.array([0.0, 1.0, 5.0]), np.array([0.9, 0.5, 0.1]), [0, 1 / 3]).tolist()
    [2.0, 0.5]
    """
    if len(errors) == 0:
        return np.full(np.shape(fractions), np.nan)
    _, block, counts = np.unique(-confidence.astype(np.float64), return_inverse=True, return_counts=True)
    kept_counts = np.concatenate(([0], np.cumsum(counts)))
    kept_sums = np.concatenate(([0.0], np.cumsum(np.bincount(block, weights=errors))))
    kept = (1 - np.asarray(fractions, np.float64)) * len(errors)
    return np.asarray(np.interp(kept, kept_counts, kept_sums) / kept, np.float64)


def area_under_sparsification_error(errors: NDArray[np.floating], confidence: NDArray[np.floating]) -> float:
    """AUSE (Ilg et al., ECCV 2018): how much worse ``confidence`` ranks matches than their errors (N,) do.

    The mean over FRACTIONS of the sparsification curve minus the oracle's, which drops the largest errors first. The
    unit is that of ``errors`` (it is not divided by the mean error). 0 is perfect; NaN for N = 0.
    """
    return float((sparsification(errors, confidence) - sparsification(errors, -errors)).mean())


@dataclass(frozen=True)
class Calibration:
    """A reliability diagram: arrays (bins,) float64 with an entry for each non-empty bin of confidence.

    confidence: the mean confidence. correct: the share of correct points. share: the bin's share of all points.
    """

    confidence: NDArray[np.float64]
    correct: NDArray[np.float64]
    share: NDArray[np.float64]

    @property
    def expected_calibration_error(self) -> float:
        """ECE (Guo et al., ICML 2017, eq. 3): ``sum_m share_m |correct_m - confidence_m|``. NaN without points."""
        return float(self.share @ np.abs(self.correct - self.confidence)) if len(self.share) else float("nan")


def calibration(correct: NDArray[np.bool_], confidence: NDArray[np.floating], bins: int = 15) -> Calibration:
    """Compare confidence (N,) in [0, 1] with the share of correct points (Guo et al., ICML 2017, section 2).

    The bins have equal width, ((m - 1) / bins, m / bins]; 0 belongs to the first. Raises ValueError if a confidence
    lies outside [0, 1] or is not a number.
    """
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError("confidence must lie between 0 and 1 to be read as a probability")
    bin_of = np.searchsorted(np.arange(1, bins) / bins, confidence, side="left")
    counts = np.bincount(bin_of, minlength=bins)
    filled = counts > 0
    sums = (np.bincount(bin_of, weights=values, minlength=bins)[filled] for values in (confidence, correct))
    mean_confidence, share_correct = (total / counts[filled] for total in sums)
    return Calibration(mean_confidence, share_correct, counts[filled] / max(len(confidence), 1))
