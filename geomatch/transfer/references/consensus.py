"""Where keypoints can lie together: the shapes of references laid over a target, as far as the evidence there agrees.

After the consensus of exemplars (Belhumeur, Jacobs, Kriegman, Kumar, CVPR 2011): the keypoints of a reference, moved
by a similarity transform that takes two of them to likely places, are a hypothesis of where all of them are; the
hypotheses with the most evidence say where each keypoint may be. Theirs has the log-probabilities of trained detectors
for evidence; ours is that of `geomatch.transfer.references.evidence`, the best within a cell, since animals bend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from geomatch.annotations import Points

FEWEST_POINTS = 3
"""Points that a shape must have to be a hypothesis: through two of them any place is as good as another."""
MOST_ROTATION = 0.8
"""Of a reference's shape, in radians, either way."""
_SMALLEST_SPREAD = 0.7  # cells


@dataclass(frozen=True)
class ConsensusSettings:
    """How hypotheses are drawn and weighed.

    hypotheses: of each reference and of its mirror image. modes: likely places of a keypoint that are tried. kept: how
    many hypotheses count. power: of a hypothesis's mean likelihood in its weight, for each keypoint that there is.
    spread: standard deviation of a keypoint about its place in a hypothesis, as a share of the shape's mean side.
    floor: the least probability density about a keypoint, the most being 1.
    """

    hypotheses: int = 60
    modes: int = 3
    kept: int = 100
    power: float = 0.1
    spread: float = 0.1
    floor: float = 1e-3


DEFAULT_SETTINGS = ConsensusSettings()


@dataclass(frozen=True)
class Shapes:
    """Keypoints of E references in the order of K names. points: (E, K, 2), in any frame; seen: (E, K) bool."""

    points: Points
    seen: NDArray[np.bool_]

    def with_mirrored(self, partners: Sequence[int]) -> Shapes:
        """These, and each flipped left to right. partners: for each name that of the other side, else its own."""
        flipped = self.points[:, partners] * (-1, 1)
        seen = self.seen[:, partners]
        return Shapes(np.concatenate((self.points, flipped)), np.concatenate((self.seen, seen)))


@dataclass(frozen=True)
class Consensus:
    """What the hypotheses say together.

    density: (K, h, w) float32 in [floor, 1], 1 where all of them put a keypoint. seen: (K,) in [0, 1], the share of
    them, by weight, whose reference marks it. score: mean log-likelihood of the keypoints of the best hypothesis.
    """

    density: Tensor
    seen: NDArray[np.float64]
    score: float


@dataclass(frozen=True)
class _Hypotheses:
    """places: (H, K, 2) in cells; seen: (H, K) bool; score: (H,), falling."""

    places: Points
    seen: NDArray[np.bool_]
    score: NDArray[np.float64]


def find_consensus(evidence: Tensor, shapes: Shapes, settings: ConsensusSettings, seed: int = 0) -> Consensus | None:
    """Where the shapes of references put the keypoints of a target; None if no shape has a hypothesis.

    Args:
        evidence: (K, h, w) float32, the log-likelihood of each keypoint at each of the target's cells.
        shapes: the references'.
        seed: of the pairs of keypoints that are drawn.
    """
    if len(evidence) < FEWEST_POINTS:
        return None
    best = _best_hypotheses(evidence, shapes, settings, np.random.default_rng(seed))
    if not len(best.score):
        return None
    names, height, width = evidence.shape
    weight = np.exp(settings.power * names * (best.score - best.score[0]))[:, None] * best.seen
    spread = max(settings.spread * _mean_side(best), _SMALLEST_SPREAD)
    x, y = (
        np.exp(-((np.arange(length) - best.places[..., axis, None]) ** 2) / (2 * spread**2))
        for axis, length in ((0, width), (1, height))
    )
    total = weight.sum(axis=0)
    density = np.einsum("ek,eky,ekx->kyx", weight, y, x, optimize=True) / np.maximum(total, 1e-9)[:, None, None]
    density = np.where(total[:, None, None] > 0, density, 1) + settings.floor
    return Consensus(
        torch.from_numpy(density.astype(np.float32)), total / weight.max(axis=1).sum(), float(best.score[0])
    )


def _best_hypotheses(
    evidence: Tensor, shapes: Shapes, settings: ConsensusSettings, generator: np.random.Generator
) -> _Hypotheses:
    names, height, width = evidence.shape
    modes = _likely_places(evidence, settings.modes)
    of = np.repeat(np.arange(len(shapes.points)), settings.hypotheses)
    order = np.argsort(-(shapes.seen[of] * generator.random((len(of), names))), axis=1, kind="stable")
    one, other = order[:, 0], order[:, 1]
    start, end = (modes[each, generator.integers(0, settings.modes, len(of))] for each in (one, other))
    points = shapes.points[..., 0] + 1j * shapes.points[..., 1]
    from_start, from_end = points[of, one], points[of, other]
    usable = (shapes.seen[of].sum(axis=1) >= FEWEST_POINTS) & (from_start != from_end) & (start != end)
    turn = np.where(usable, end - start, 1) / np.where(usable, from_end - from_start, 1)
    usable &= np.abs(np.angle(turn)) < MOST_ROTATION
    places = (points[of] - from_start[:, None]) * turn[:, None] + start[:, None]
    x, y = places.real, places.imag
    inside = (x >= -1) & (x <= width) & (y >= -1) & (y <= height)
    near = F.max_pool2d(evidence[None], 3, stride=1, padding=1)[0].numpy()
    column, row = x.round().clip(0, width - 1).astype(int), y.round().clip(0, height - 1).astype(int)
    found = np.where(inside, near[np.arange(names), row, column], near.min())
    seen = shapes.seen[of]
    score = np.where(usable, (found * seen).sum(axis=1) / np.maximum(seen.sum(axis=1), 1), -np.inf)
    best = np.argsort(-score, kind="stable")[: settings.kept]
    best = best[np.isfinite(score[best])]
    return _Hypotheses(np.stack((x, y), axis=-1)[best], seen[best], score[best])


def _likely_places(evidence: Tensor, count: int) -> NDArray[np.complex128]:
    """The ``count`` highest local maxima of each keypoint's evidence (K, h, w), x + i y in cells: (K, count)."""
    highest = F.max_pool2d(evidence[None], 5, stride=1, padding=2)[0]
    peaks = torch.where(evidence == highest, evidence, -torch.inf).flatten(1)
    cells = peaks.argsort(dim=1, descending=True, stable=True)[:, :count].numpy()
    width = evidence.shape[2]
    return np.asarray(cells % width + 1j * (cells // width))


def _mean_side(best: _Hypotheses) -> float:
    """The mean, over hypotheses, of half the width and height of the shape, in cells."""
    sides = [np.ptp(places[seen], axis=0).sum() / 2 for places, seen in zip(best.places, best.seen, strict=True)]
    return float(np.mean(sides))
