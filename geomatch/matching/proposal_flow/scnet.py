"""SCNet: regions matched by learnt embeddings of appearance and of geometry (Han et al., ICCV 2017, arXiv 1705.04043).

Region i of image A and region j of image B have the similarity s_ij = max(0, <c_i, c_j>) of their embeddings
(`geomatch.features.scnet`). Region i is matched to the region j of largest z_ij, which is

- SCNet-A: s_ij;
- SCNet-AG: s_ij times the votes of all pairs of regions that fall into its bin, K_ij,kl = 1, by their similarity s_kl;
- SCNet-AG+: the same, with votes by the similarity of a second embedding.

As in the released code, bins are five times as large as those of probabilistic Hough matching, and scales twice as
fine; a pair votes with what its similarity exceeds VOTE_THRESHOLD by, if the aspects of its regions differ by less than
a factor of two; there is no smoothing, and LEAST_VOTES are added. The code trains SCNet-AG without the rectifier of s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from geomatch.features.scnet import Embedding
from geomatch.matching.proposal_flow.hough_scores import SCALES, hough_bins
from geomatch.matching.proposal_flow.proposal_flow import Appearance, RegionNeighbours, embed_boxes
from geomatch.matching.proposal_flow.regions import RegionFeatures, Regions
from geomatch.options import DEFAULT_MAX_MEMORY

VOTE_THRESHOLD: Final = 0.4
LEAST_VOTES: Final = 0.01
LARGER_CELLS: Final = 5.0
FINER_SCALES: Final = 2


def geometric_votes(similarity: Tensor, source: Regions, target: Regions) -> Tensor:
    """sum_kl K_ij,kl max(0, s_kl - VOTE_THRESHOLD) + LEAST_VOTES (N, M) of similarities s (N, M), with its gradient."""
    bins, shape = hough_bins(source, target, LARGER_CELLS, FINER_SCALES * SCALES)
    voting = (bins >= 0) & source.may_match(target)
    bins = torch.where(voting, bins, math.prod(shape)).flatten()
    ballots = torch.where(voting, (similarity - VOTE_THRESHOLD).relu(), 0.0).flatten()
    # In float64, so that the order of summation, which changes on a GPU, does not change the result.
    votes = torch.zeros(math.prod(shape) + 1, dtype=torch.float64, device=bins.device).index_add(
        0, bins, ballots.double()
    )
    return votes[bins].to(similarity.dtype).reshape(similarity.shape) + LEAST_VOTES


@dataclass(frozen=True)
class SCNetA(RegionNeighbours):
    """z = s, the similarity of appearance alone; all else as in `RegionNeighbours`."""

    appearance: Appearance = Appearance.embedding


@dataclass(frozen=True)
class SCNetAG(SCNetA):
    """z = s times the votes of the same similarities, see `geometric_votes`."""

    def scores(self, similarity: Tensor, source: Regions, target: Regions, max_bytes: int) -> Tensor:  # noqa: ARG002
        return similarity * geometric_votes(similarity, source, target)


@dataclass(frozen=True)
class SCNetAGPlus(SCNetA):
    """z = s times the votes of the similarities of a second embedding, see `geometric_votes`."""

    def regions(self, features: RegionFeatures) -> Regions:
        found = super().regions(features)
        return replace(found, voters=embed_boxes(features, found.boxes, Embedding.geometry, DEFAULT_MAX_MEMORY))

    def scores(self, similarity: Tensor, source: Regions, target: Regions, max_bytes: int) -> Tensor:  # noqa: ARG002
        assert source.voters is not None  # of `regions`
        assert target.voters is not None
        return similarity * geometric_votes((source.voters @ target.voters.mT).relu(), source, target)
