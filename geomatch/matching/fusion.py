"""The most probable of several matchers' answers, cell by cell.

After fusion moves (Lempitsky et al., PAMI 2010), which combine two solutions into one of lower energy. Ours has no
energy: it compares the log-odds of the confidence model, averaged over the cells around.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.errors import InputError
from geomatch.matching.affine_consistency.affine import BASES, AffineConsistency
from geomatch.matching.base import Limits, MatchContext, Matcher, TargetPoints
from geomatch.matching.confidence import CueSettings, compute_cues_of_each, match_probability
from geomatch.matching.proposal_flow.proposal_flow import LocalOffsets, ProbabilisticHough

MEMBERS: Final[Mapping[str, Matcher]] = {
    **BASES,
    "affine-hough": AffineConsistency(of="hough"),
    "affine-dsp": AffineConsistency(of="dsp", weight=0.6, reach=0.1),
    "pf-phm": ProbabilisticHough(),
    "pf-lom": LocalOffsets(),
}
"""The matchers that can be fused, by name. The spatial pyramid is rigid; where it is right, a stronger penalty is."""

AGREEMENT_DISTANCE: Final = 0.1
"""Distance within which two matchers agree on a cell, as a share of the target's longer side."""


@dataclass(frozen=True)
class Fusion(Matcher):
    """Take, for each cell, the target point of the matcher with the highest log-odds; of equals the first named.

    The log-odds are those of `match_probability`, averaged over the cells up to ``around`` away along both axes, so
    that neighbouring cells mostly take the same matcher. Every matcher m but the first gets a bonus, or a penalty, for
    how far it agrees with the first over the whole image:

        trust (agreement_m - doubt),    agreement_m = sum_i p_i [|x_mi - x_1i| <= AGREEMENT_DISTANCE] / sum_i p_i

    where x_mi is where matcher m sends cell i, and p_i the probability of the first matcher's match. The reason: a
    rigid matcher gets high log-odds everywhere, but is right only if both objects are seen from the same side, and
    then nearest neighbours, the first by default, agree with it.

    of: the matchers, names separated by commas, with the parameters that they have in MEMBERS.
    around: radius of the average, in cells.
    trust: weight of the agreement. doubt: the agreement, in [0, 1], that earns neither bonus nor penalty. Both were
        chosen on the validation pairs of SPair-71k and animal-parts.
    """

    limits: ClassVar[Limits] = {"around": (0, 100), "trust": (0, 1e3), "doubt": (0, 1)}

    of: str = "nn,affine-hough,affine-dsp"
    around: int = 2
    trust: float = 3.0
    doubt: float = 0.6

    def __post_init__(self) -> None:
        """Raises InputError for a matcher that is not known."""
        super().__post_init__()
        if unknown := [name for name in self._names() if name not in MEMBERS]:
            raise InputError(
                f"parameter of of matcher fusion: no matcher '{unknown[0]}'; name some of {', '.join(MEMBERS)}"
            )

    @property
    def reads_image(self) -> bool:
        return any(member.reads_image for member in self.members())

    def prepare(self, features: FeatureMap, image: Tensor) -> FeatureMap:
        for member in self.members():
            features = member.prepare(features, image)
        return features

    def __call__(self, context: MatchContext) -> tuple[TargetPoints, TargetPoints]:
        forward, backward = zip(*(member(context) for member in self.members()), strict=True)
        return self._most_probable(context, forward), self._most_probable(context.reversed, backward)

    def members(self) -> list[Matcher]:
        """The matchers that are fused."""
        return [MEMBERS[name] for name in self._names()]

    def _names(self) -> list[str]:
        return [name.replace("coherent-", "affine-") for name in self.of.split(",")]  # as version 0.1 called them

    def _most_probable(self, context: MatchContext, answers: Sequence[TargetPoints]) -> TargetPoints:
        grid = context.source.grid
        centres = grid.centres(context.source.descriptors.device)
        points = torch.stack([answer.at(centres) for answer in answers])
        cues = compute_cues_of_each(context, list(points), CueSettings(), context.stored_similarity)
        probability = torch.stack([match_probability(each, context.source.calibration.alone) for each in cues])
        log_odds = torch.logit(probability, eps=1e-4).reshape(len(answers), 1, *grid.shape)
        log_odds = F.avg_pool2d(log_odds, 2 * self.around + 1, 1, self.around, count_include_pad=False).flatten(1)
        agreement = agreement_with_first(points, probability[0], context.target.longer_side)
        log_odds[1:] += self.trust * (agreement[1:, None] - self.doubt)
        chosen = log_odds.argmax(dim=0)
        return TargetPoints(grid, points[chosen, torch.arange(len(centres), device=chosen.device)])


def agreement_with_first(points: Tensor, probability: Tensor, longer_side: float) -> Tensor:
    """The share of cells, weighted by ``probability`` (N,), on which each of M answers agrees with the first: (M,).

    points: (M, N, 2), where each answer sends the cells, in pixels of a target whose view has that ``longer_side``.
    """
    agrees: Tensor = (points - points[0]).norm(dim=2) <= AGREEMENT_DISTANCE * longer_side
    return (agrees * probability).sum(dim=1) / probability.sum().clamp(min=1e-12)
