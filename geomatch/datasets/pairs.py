"""Annotated pairs of images: what every benchmark is read into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class AnnotatedPair:
    """Two images and the points that correspond in them.

    source_points, target_points: (K, 2) float64, x then y, in pixels of the images as stored, centres at integers
        from 0 on (1-based files are shifted on reading). Row k of one corresponds to row k of the other.
    target_box: of the object in the target (left, top, right, bottom), where the benchmark gives one.
    category: what the benchmark calls the pair's class.
    """

    source: Path
    target: Path
    source_points: Points
    target_points: Points
    category: str
    target_box: Box | None = None


@dataclass(frozen=True)
class PairDataset:
    """A split of a benchmark, read and checked."""

    name: str
    split: str
    pairs: Sequence[AnnotatedPair]

    @property
    def keypoints(self) -> int:
        return sum(len(pair.source_points) for pair in self.pairs)
