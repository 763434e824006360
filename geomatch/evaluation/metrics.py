"""Scores as pure functions of arrays."""

from __future__ import annotations

import numpy as np

from geomatch.datasets.pairs import Points


def correct_keypoints(predicted: Points, truth: Points, length: float, alpha: float) -> np.ndarray:
    """Which of K predictions (K, 2) lie within ``alpha * length`` pixels of the truth (K, 2): (K,) bool."""
    return np.asarray(np.linalg.norm(predicted - truth, axis=1) <= alpha * length)


def keypoint_extent(points: Points) -> float:
    """The longer side, in pixels, of the tightest box round keypoints (K, 2)."""
    return float(np.ptp(points, axis=0).max())
