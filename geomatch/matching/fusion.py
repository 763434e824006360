"""Of several methods' answers, cell by cell the one that most speaks for.

After fusion moves (Lempitsky et al., PAMI 2010), which take from two solutions what is best of each; ours asks no
energy but the evidence that confidence is made of, averaged over the cells around.
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
from geomatch.matching.affine_consistency.affine import FIRST, AffineConsistency
from geomatch.matching.base import Limits, Matcher, TargetPoints
from geomatch.matching.confidence import CueSettings, compute_cues_of_each, match_probability
from geomatch.matching.context import MatchContext
from geomatch.matching.proposal_flow.proposal_flow import LocalOffsets, ProbabilisticHough
from geomatch.matching.similarity import Similarity

MEMBERS: Final[Mapping[str, Matcher]] = {
    **FIRST,
    "affine-hough": AffineConsistency(of="hough"),
    "affine-dsp": AffineConsistency(of="dsp", weight=0.6, reach=0.1),
    "pf-phm": ProbabilisticHough(),
    "pf-lom": LocalOffsets(),
}
"""The methods by name. Where a pyramid, which is rigid, is right, so is a tighter rein."""

NEAR: Final = 0.1
"""Distance within which two methods agree, as a share of the target's longer side."""


@dataclass(frozen=True)
class Fusion(Matcher):
    """Each cell lies where the method of the highest log-odds puts it; of equals the one named first.

    The log-odds are those of `match_probability`, averaged over the cells up to ``around`` away along both axes, so
    that neighbours mostly take the same method's word. To those of every method but the first

        trust (accord - doubt)

    is added: accord, in [0, 1], is how far it agrees with the first over the whole image, the share of the cells, each
    weighing as likely as the first is right there, that both place within ``NEAR``. For a method that bends little
    looks good wherever it lies, but is right only where things are seen from the same side, and then others agree.

    of: the methods asked, names separated by commas; each as MEMBERS has it. around: in cells. trust, doubt: chosen
    on the validation pairs of SPair-71k and animal-parts.
    """

    limits: ClassVar[Limits] = {"around": (0, 100), "trust": (0, 1e3), "doubt": (0, 1)}

    of: str = "affine-hough,affine-dsp"
    around: int = 2
    trust: float = 3.0
    doubt: float = 0.85

    def __post_init__(self) -> None:
        """Raises InputError for a method that is not known."""
        super().__post_init__()
        if unknown := [name for name in self._names() if name not in MEMBERS]:
            raise InputError(
                f"parameter of of matcher fusion: no matcher '{unknown[0]}'; name some of {', '.join(MEMBERS)}"
            )

    def prepare(self, features: FeatureMap, image: Tensor) -> FeatureMap:
        for member in self.members():
            features = member.prepare(features, image)
        return features

    def __call__(self, context: MatchContext) -> tuple[TargetPoints, TargetPoints]:
        source, target, max_bytes = context.source, context.target, context.max_bytes
        forward, backward = zip(*(member(context) for member in self.members()), strict=True)
        similarity, reverse = context.stored_similarity, context.reversed.stored_similarity
        return (
            self._most_likely(source, target, forward, similarity, max_bytes),
            self._most_likely(target, source, backward, reverse, max_bytes),
        )

    def members(self) -> list[Matcher]:
        """The methods asked."""
        return [MEMBERS[name] for name in self._names()]

    def _names(self) -> list[str]:
        return [name.replace("coherent-", "affine-") for name in self.of.split(",")]  # as version 0.1 called them

    def _most_likely(
        self,
        source: FeatureMap,
        target: FeatureMap,
        answers: Sequence[TargetPoints],
        similarity: Similarity,
        max_bytes: int,
    ) -> TargetPoints:
        centres = source.grid.centres(source.descriptors.device)
        landings = torch.stack([answer.at(centres) for answer in answers])
        cues = compute_cues_of_each(source, target, list(landings), CueSettings(), max_bytes, similarity)
        likely = torch.stack([match_probability(each, source.calibration) for each in cues])
        side = 2 * self.around + 1
        odds = torch.logit(likely, eps=1e-4).reshape(len(answers), 1, *source.grid.shape)
        odds = F.avg_pool2d(odds, side, 1, self.around, count_include_pad=False).flatten(1)
        agrees = (landings - landings[0]).norm(dim=2) <= NEAR * max(target.image_size)
        accord = (agrees * likely[0]).sum(dim=1) / likely[0].sum().clamp(min=1e-12)
        odds[1:] += self.trust * (accord[1:, None] - self.doubt)
        chosen = odds.argmax(dim=0)
        return TargetPoints(source.grid, landings[chosen, torch.arange(len(centres), device=chosen.device)])
