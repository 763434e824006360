"""Cells are matched again, near where the matches around take them, as far as these cohere.

Things of a kind differ by what is nearly an affine map, seen from near by, even if one is mirrored, turned or larger;
where matches found otherwise follow one, those that do not are mostly wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.errors import InputError
from geomatch.matching.affine_consistency.moving_least_squares import moving_least_squares
from geomatch.matching.base import REFINEMENT_LIMITS, Limits, Matcher, TargetPoints
from geomatch.matching.blur import blurred
from geomatch.matching.confidence import CueSettings, compute_cues, match_probability
from geomatch.matching.context import MatchContext
from geomatch.matching.hough import HoughVoting
from geomatch.matching.nearest import NearestNeighbours
from geomatch.matching.similarity import Partners, Similarity, argmax_of_rows, place, row_blocks
from geomatch.matching.spatial_pyramid.spatial_pyramid import SpatialPyramid

FIRST: Final[Mapping[str, Matcher]] = {
    "nn": NearestNeighbours(),
    "hough": HoughVoting(),
    "dsp": SpatialPyramid(levels=3),  # half the work of four; maps see to what is smaller
}


@dataclass(frozen=True)
class AffineConsistency(Matcher):
    """Best partners, given those of another method, by

        z_ij = <a_i, b_j> - weight c_i^doubt d_ij^2 / (d_ij^2 + reach^2).

    d_ij is how far cell j is from where the affine map of the matches around cell i takes it
    (`moving_least_squares`), and c_i in [0, 1] which share of these matches lies near
    where their own maps take them; each match weighs with the square of its probability (`match_probability`).

    of: the other method, with its own defaults. weight: of the distance against the similarity. doubt: the larger it
    is, the less maps are followed that not all agree with. around: the deviation of the Gaussian that says what is
    around, as a share of the longer side. tolerance: what is near, and reach: both as shares of the target's longer
    side. window, temperature: of the refinement below a cell, as for nearest neighbours.
    """

    limits: ClassVar[Limits] = {
        "weight": (0, 1e3),
        "doubt": (0, 100),
        "around": (1e-3, 1e3),
        "tolerance": (1e-6, 1e3),
        "reach": (1e-6, 1e3),
        **REFINEMENT_LIMITS,
    }

    of: str = "hough"
    weight: float = 0.3
    doubt: float = 4.0
    around: float = 0.08
    tolerance: float = 0.08
    reach: float = 0.2
    window: int = 1
    temperature: float = 0.05

    def __post_init__(self) -> None:
        """Raises InputError for a method that is not known."""
        super().__post_init__()
        if self.of not in FIRST:
            raise InputError(f"parameter of of matcher affine: no matcher '{self.of}'; name one of {', '.join(FIRST)}")

    def __call__(self, context: MatchContext) -> tuple[TargetPoints, TargetPoints]:
        source, target, max_bytes = context.source, context.target, context.max_bytes
        there, back = FIRST[self.of](context)
        similarity, reverse = context.stored_similarity, context.reversed.stored_similarity
        partners = Partners(
            self.partners(source, target, there.positions, similarity, max_bytes),
            self.partners(target, source, back.positions, reverse, max_bytes),
        )
        return place(source, target, partners, self.window, self.temperature, max_bytes)

    def partners(
        self, source: FeatureMap, target: FeatureMap, landing: Tensor, similarity: Similarity, max_bytes: int
    ) -> Tensor:
        """The target cell of each source cell: (N,) int64.

        landing: (N, 2), where the other method puts the source cells, in the target's pixels. similarity: of the two.
        """
        scale = max(target.image_size)
        cues = compute_cues(source, target, landing, CueSettings(), max_bytes, similarity)
        likely = match_probability(cues, source.calibration).square()
        deviation = self.around * max(source.grid.shape)
        taken = moving_least_squares(source.grid, landing / scale, likely, deviation)
        follows = (landing / scale - taken).norm(dim=1) < self.tolerance
        coherence = _mean_around(follows.to(likely), likely, source.grid.shape, deviation)
        toll = self.weight * coherence.pow(self.doubt)
        centres = target.grid.centres(landing.device) / scale
        partners = torch.empty(len(landing), dtype=torch.int64, device=landing.device)
        for begin, end in row_blocks(len(landing), 2 * len(centres), max_bytes):
            far = torch.cdist(taken[begin:end], centres).square_()
            tolls = far.div_(far + self.reach**2).mul_(toll[begin:end, None])
            partners[begin:end] = argmax_of_rows(similarity.rows(begin, end) - tolls)
        return partners


def _mean_around(values: Tensor, weight: Tensor, shape: tuple[int, int], deviation: float) -> Tensor:
    """The weighted means (N,) of values (N,) of a grid under a Gaussian round each cell, its deviation in cells."""
    over, under = (
        blurred(each.reshape(shape), {0: deviation, 1: deviation}).flatten() for each in (values * weight, weight)
    )
    return over / under.clamp(min=1e-12)
