"""Exact nearest neighbours in cosine similarity, both ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from geomatch.correspondence import FeatureMap
from geomatch.matching.base import REFINEMENT_LIMITS, Limits, Matcher, TargetPoints
from geomatch.matching.context import MatchContext
from geomatch.matching.similarity import Partners, Similarity, best_partners, place


@dataclass(frozen=True)
class NearestNeighbours(Matcher):
    """Every cell's most similar cell.

    window: radius, in cells, of the neighbourhood of a partner that its position is refined over.
    temperature: of the soft-argmax over that neighbourhood, in units of cosine similarity.
    """

    limits: ClassVar[Limits] = REFINEMENT_LIMITS

    window: int = 1
    temperature: float = 0.05

    def __call__(self, context: MatchContext) -> tuple[TargetPoints, TargetPoints]:
        source, target, max_bytes = context.source, context.target, context.max_bytes
        partners = nearest_partners(source, target, max_bytes)
        return place(source, target, partners, self.window, self.temperature, max_bytes)


def nearest_partners(source: FeatureMap, target: FeatureMap, max_bytes: int) -> Partners:
    """The most similar target cell of every source cell, and the other way round.

    Descriptors have unit length, so the similarity of cells i and j is the dot product <a_i, b_j>.
    """
    similarity = Similarity.of(source, target)
    return best_partners(similarity.rows, similarity.shape, max_bytes, similarity.a.device)
