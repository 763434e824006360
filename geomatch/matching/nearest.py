"""Exact nearest neighbours in cosine similarity, both ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from geomatch.matching.base import REFINEMENT_LIMITS, Limits, MatchContext, Matcher, TargetPoints
from geomatch.matching.refinement.sub_cell import refined_target_points
from geomatch.matching.similarity import Partners, best_partners


@dataclass(frozen=True)
class NearestNeighbours(Matcher):
    """Match every cell with its most similar cell.

    window: radius, in cells, of the window around a partner over which its position is refined.
    temperature: of the soft-argmax over that window, in units of cosine similarity.
    """

    limits: ClassVar[Limits] = REFINEMENT_LIMITS

    window: int = 1
    temperature: float = 0.05

    def __call__(self, context: MatchContext) -> tuple[TargetPoints, TargetPoints]:
        return refined_target_points(context, nearest_partners(context), self.window, self.temperature)


def nearest_partners(context: MatchContext) -> Partners:
    """The most similar target cell of every source cell, and the most similar source cell of every target cell."""
    similarity = context.similarity
    return best_partners(similarity.rows, similarity.shape, context.max_bytes, similarity.a.device)
