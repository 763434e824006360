"""Exact nearest neighbours in cosine similarity, both ways."""

from __future__ import annotations

from geomatch.correspondence import FeatureMap
from geomatch.matching.search import Partners, best_partners


def nearest_partners(source: FeatureMap, target: FeatureMap, max_bytes: int) -> Partners:
    """The most similar target cell of every source cell, and the other way round.

    Descriptors have unit length, so the similarity of cells i and j is the dot product <a_i, b_j>.
    """
    a, b = source.descriptors.flatten(1), target.descriptors.flatten(1)
    return best_partners(lambda start, stop: a[:, start:stop].mT @ b, (a.shape[1], b.shape[1]), max_bytes, a.device)
