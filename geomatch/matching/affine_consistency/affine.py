"""Affine consistency: cells are matched again near the position that an affine map of their neighbours predicts.

Seen locally, objects of one kind differ by nearly an affine map, even if one is mirrored, rotated or larger. Where the
matches of another matcher follow such a map, those that do not follow it are mostly wrong. (Ours.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch import Tensor

from geomatch.errors import InputError
from geomatch.matching.affine_consistency.moving_least_squares import moving_least_squares
from geomatch.matching.base import REFINEMENT_LIMITS, Limits, MatchContext, Matcher, TargetPoints
from geomatch.matching.confidence import CueSettings, compute_cues, match_probability
from geomatch.matching.gaussian import gaussian_sums
from geomatch.matching.hough import HoughVoting
from geomatch.matching.nearest import NearestNeighbours
from geomatch.matching.refinement.sub_cell import refined_target_points
from geomatch.matching.similarity import Partners, argmax_of_rows, row_blocks
from geomatch.matching.spatial_pyramid.spatial_pyramid import SpatialPyramid

BASES: Final[Mapping[str, Matcher]] = {
    "nn": NearestNeighbours(),
    "hough": HoughVoting(),
    "dsp": SpatialPyramid(levels=3),  # half the work of four levels; the affine maps handle what is smaller
}
"""The matchers whose matches can be made consistent, by name."""


@dataclass(frozen=True)
class AffineConsistency(Matcher):
    """Match again, given the matches of another matcher: similarity less a penalty for leaving the affine map.

        z_ij = <a_i, b_j> - weight c_i^doubt d_ij^2 / (d_ij^2 + reach^2)

    d_ij is the distance from target cell j to where the affine map of the matches around source cell i predicts it
    (`moving_least_squares`). The consistency c_i in [0, 1] is the share of these matches that lie within ``tolerance``
    of where their own maps predict them. Each match is weighted by the square of its probability (`match_probability`).

    of: the other matcher, a name of BASES. weight: of the penalty against the similarity.
    doubt: the power of the consistency. The larger it is, the weaker the penalty where matches follow no common map.
    around: standard deviation of the Gaussian that weights neighbours, as a share of the source grid's longer side.
    tolerance, reach: distances as shares of the target's longer side.
    window, temperature: of the refinement to sub-cell, as for nearest neighbours.
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
        """Raises InputError for a matcher that is not known."""
        super().__post_init__()
        if self.of not in BASES:
            raise InputError(f"parameter of of matcher affine: no matcher '{self.of}'; name one of {', '.join(BASES)}")

    def __call__(self, context: MatchContext) -> tuple[TargetPoints, TargetPoints]:
        forward, backward = BASES[self.of](context)
        partners = Partners(
            self.partners(context, forward.positions), self.partners(context.reversed, backward.positions)
        )
        return refined_target_points(context, partners, self.window, self.temperature)

    def partners(self, context: MatchContext, points: Tensor) -> Tensor:
        """The target cell (N,) int64 of each source cell; points: (N, 2), where the other matcher sends these."""
        predicted, consistency = self._predict(context, points)
        weight = self.weight * consistency.pow(self.doubt)
        similarity = context.stored_similarity
        centres = context.target.grid.centres(points.device) / context.target.longer_side
        partners = torch.empty(len(points), dtype=torch.int64, device=points.device)
        for begin, end in row_blocks(len(points), 2 * len(centres), context.max_bytes, points.device):
            squared = torch.cdist(predicted[begin:end], centres).square_()
            penalty = squared.div_(squared + self.reach**2).mul_(weight[begin:end, None])
            partners[begin:end] = argmax_of_rows(similarity.rows(begin, end) - penalty)
        return partners

    def _predict(self, context: MatchContext, points: Tensor) -> tuple[Tensor, Tensor]:
        """Where the affine maps of the neighbours send each cell (N, 2), as shares of the target's longer side, and
        the consistency (N,) of these neighbours."""
        grid, points_in_shares = context.source.grid, points / context.target.longer_side
        cues = compute_cues(context, points, CueSettings(), context.stored_similarity)
        weight = match_probability(cues, context.source.calibration.alone).square()
        deviation = self.around * max(grid.shape)
        predicted = moving_least_squares(grid, points_in_shares, weight, deviation)
        follows = (points_in_shares - predicted).norm(dim=1) < self.tolerance
        return predicted, _mean_around(follows.to(weight), weight, grid.shape, deviation)


def _mean_around(values: Tensor, weight: Tensor, shape: tuple[int, int], deviation: float) -> Tensor:
    """The weighted means (N,) of a grid's values (N,) under a Gaussian around each cell, its deviation in cells."""
    total, normaliser = (
        gaussian_sums(each.reshape(shape), {0: deviation, 1: deviation}).flatten() for each in (values * weight, weight)
    )
    return total / normaliser.clamp(min=1e-12)
