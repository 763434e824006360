"""Proposal Flow: boxes of two images are matched by appearance and by how matches agree (Ham et al., PAMI 2018).

Boxes i of image A and j of image B have the similarity s_ij = max(0, <f_i, f_j>)^p of their pooled features, if the
ratio of their aspects lies between 1/2 and 2; otherwise s_ij = 0. The paper has p = 1, and whitens the boxes' HOG by
the mean and covariance of photographs; here the mean over the pair's own boxes is subtracted, and p is 6.
Box i is matched to the box j of largest z_ij, which is

- s_ij alone: naive appearance matching (`NaiveAppearance`);
- s_ij times the votes of all pairs of boxes: probabilistic Hough matching (`ProbabilisticHough`);
- s_ij times how well the pair moves like the boxes around it: local offset matching (`LocalOffsets`).

The position and size of box j are then refined between the boxes of B (`box_refinement`), which the paper does not do.
The matched boxes become a dense flow in `region_flow`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.correspondence import FeatureMap, RegionMatches
from geomatch.errors import InputError, OutOfMemoryError
from geomatch.features.scnet import Embedding
from geomatch.matching.base import Limits, MatchContext, Matcher, TargetPoints
from geomatch.matching.proposal_flow.box_hog import hog_of_boxes
from geomatch.matching.proposal_flow.box_refinement import refined_boxes
from geomatch.matching.proposal_flow.hough_scores import hough_scores
from geomatch.matching.proposal_flow.offset_scores import offset_scores, offset_scores_in_turn
from geomatch.matching.proposal_flow.pooling import pool, pool_maxima
from geomatch.matching.proposal_flow.proposals import (
    inside_border,
    sliding_windows,
    thinned,
    uniform_boxes,
    whole_image,
)
from geomatch.matching.proposal_flow.region_flow import flow_from_regions, lattice_over, stretch_over
from geomatch.matching.proposal_flow.regions import IMAGE_SIDE, RegionFeatures, Regions, missing, require_regions
from geomatch.matching.proposal_flow.selective_search import full_selective_search, selective_search
from geomatch.matching.similarity import argmax_of_rows, row_blocks

WINDOW_SCALES: Final = (0.1, 0.15, 0.225, 0.34, 0.5, 0.75)
"""Sides of the windows to match, which are square, as shares of the geometric mean of the image's sides."""


class Appearance(StrEnum):
    """What boxes are compared by.

    features: means of the features over bins. hog: HOG of the boxes' own pixels, whatever the features. embedding: what
    SCNet has learnt of a box, which its features alone have.
    """

    features = "features"
    hog = "hog"
    embedding = "embedding"


class Updates(StrEnum):
    """When local offset matching replaces similarities by scores: once all are computed, or box by box."""

    at_once = "at-once"
    in_turn = "in-turn"


class Proposals(StrEnum):
    """Where boxes come from; the full search finds two to three times as many as the other, and none that is narrow."""

    sliding = "sliding"
    uniform = "uniform"
    selective_search = "selective-search"
    full_selective_search = "full-selective-search"


SEARCHES: Final = MappingProxyType(
    {Proposals.selective_search: selective_search, Proposals.full_selective_search: full_selective_search}
)
"""How the image is searched for boxes, where it is."""


@dataclass(frozen=True)
class ProposalFlow(Matcher):
    """What the three ways of matching share.

    proposals: where boxes come from. count: about how many of them. seed: of random boxes.
    appearance: what boxes are compared by; in the paper HOG.
    bins: that each box is cut into, along either axis; in the paper 8, for HOG. An embedding has its network's.
    centring: share of the mean over the pair's boxes that is subtracted from each; 1 is all of it.
    sharpness: the power p of the similarity.
    aspect: two boxes are matched only if the ratio of their aspects is below it and above its inverse.
    overlap, temperature: each partner is refined by a soft-argmax over the target's boxes of similar aspect whose
        intersection over union with it is at least ``overlap``; the temperature is in units of cosine similarity (see
        `refined_boxes`). 1 leaves partners as they are.
    agreement: distance within which boxes agree on where a point lies, as a share of the target's longer side; with 0
        every point follows the best box alone (see `region_flow`).
    lattice: points along the longer side of the dense flow.
    smoothness: lambda of its filter for a lattice of one point a pixel, IMAGE_SIDE of them along that side. It falls
        with the square of the points' spacing, so that the flow is equally smooth on any lattice. In the paper it is
        20, which tears the flow more.

    The paper's flow has overlap 1 and agreement 0, and a point for every pixel; lattice 100 is nearer to that.
    """

    limits: ClassVar[Limits] = {
        "count": (1, 10_000),
        "seed": (0, 2**31),
        "bins": (1, 32),
        "centring": (0, 1),
        "sharpness": (1e-3, 100),
        "aspect": (1.01, 1e6),
        "overlap": (0.01, 1),
        "temperature": (1e-3, 100),
        "agreement": (0, 1),
        "lattice": (1, 2000),
        "smoothness": (1e-6, 1e6),
    }

    proposals: Proposals = Proposals.sliding
    count: int = 600
    seed: int = 0
    appearance: Appearance = Appearance.features
    bins: int = 4
    centring: float = 1.0
    sharpness: float = 6.0
    aspect: float = 2.0
    overlap: float = 0.1
    temperature: float = 0.1
    agreement: float = 0.05
    lattice: int = 50
    smoothness: float = 60.0

    @abstractmethod
    def scores(self, similarity: Tensor, source: Regions, target: Regions, max_bytes: int) -> Tensor:
        """z_ij (N, M) float32, not negative, of similarities s_ij (N, M), which are zero where aspects differ."""

    def prepare(self, features: FeatureMap, image: Tensor) -> RegionFeatures:
        """Add the image, and what this matcher's parameters need of it: searched boxes, and HOG of the boxes."""
        prepared = RegionFeatures.of(features, image)
        search = SEARCHES.get(self.proposals)
        if search and prepared.boxes is None:
            boxes = thinned(inside_border(search(image), features.image_size), self.count)
            prepared = replace(prepared, boxes=torch.from_numpy(boxes).to(features.descriptors))
        if self.appearance is Appearance.hog and prepared.box_descriptors is None:
            descriptors = hog_of_boxes(image, self.regions(prepared).boxes.cpu(), self.bins)
            prepared = replace(prepared, box_descriptors=descriptors.to(features.descriptors))
        return prepared

    def __call__(self, context: MatchContext) -> tuple[TargetPoints, TargetPoints]:
        source, target = require_regions(context.source), require_regions(context.target)
        a, b = self.regions(source), self.regions(target)
        self._check_memory(source.descriptors.shape[0], len(a.boxes), len(b.boxes), context.max_bytes)
        described = [self.describe_boxes(*each, context.max_bytes) for each in ((source, a), (target, b))]
        bins = 1 if self.appearance is Appearance.embedding else self.bins
        first, second = subtract_mean(described, bins, self.centring)
        cosine = (first @ second.mT).relu_()
        forward = self.match(cosine, second, a, b, context.max_bytes)
        backward = self.match(cosine.mT, first, b, a, context.max_bytes)
        return self._to_points(forward, context), self._to_points(backward, context.reversed)

    def regions(self, features: RegionFeatures) -> Regions:
        """The boxes of an image, the last being the whole of it, on the device of its features."""
        size = features.image_size
        match self.proposals:
            case Proposals.sliding:
                boxes = sliding_windows(size, WINDOW_SCALES, (1.0,), stride=0.5 * (600 / self.count) ** 0.5)
            case Proposals.uniform:
                boxes = uniform_boxes(size, self.count, self.seed)
            case Proposals.selective_search | Proposals.full_selective_search:
                if features.boxes is None:
                    raise missing("the boxes of selective search")
                boxes = features.boxes.double().cpu().numpy()
        every = np.concatenate((boxes, whole_image(size)))
        return Regions.of(torch.from_numpy(every).to(features.descriptors), size, features.mask)

    def describe_boxes(self, features: RegionFeatures, regions: Regions, max_bytes: int) -> Tensor:
        """The descriptors of N boxes: (N, bins^2 C) float32, by row, column, channel."""
        if self.appearance is Appearance.features:
            return pool(features, regions.boxes, self.bins, max_bytes)
        if self.appearance is Appearance.embedding:
            return embed_boxes(features, regions.boxes, Embedding.appearance, max_bytes)
        if features.box_descriptors is None:
            raise missing("the boxes' HOG")
        return features.box_descriptors

    def match(
        self, cosine: Tensor, descriptors: Tensor, source: Regions, target: Regions, max_bytes: int
    ) -> RegionMatches:
        """The best match of each of N boxes among M others, refined.

        cosine: (N, M), similarities of all boxes, not negative. descriptors: (M, D), of the target's boxes.
        """
        admissible = source.may_match(target, self.aspect)
        scores = self.scores(cosine.pow(self.sharpness) * admissible, source, target, max_bytes)
        partners = argmax_of_rows(scores.contiguous())
        best = scores.gather(1, partners[:, None])[:, 0]
        matched = target.boxes[partners]
        if self.overlap < 1:
            near = admissible & (target.intersection_over_union() >= self.overlap)[partners]
            own = (descriptors @ descriptors.mT).relu_()
            matched = refined_boxes(target.boxes, partners, near, cosine, own, self.temperature)
        order = best.argsort(descending=True, stable=True)
        return RegionMatches(source.boxes[order], matched[order], best[order], target.boxes)

    def _to_points(self, regions: RegionMatches, context: MatchContext) -> TargetPoints:
        """Matched boxes of the source as a dense flow on its lattice."""
        source, target = (lattice_over(each.image_size, self.lattice) for each in (context.source, context.target))
        if not bool((regions.score > 0).any()):
            return stretch_over(regions, source, target)
        smoothness = self.smoothness * (max(source.shape) / IMAGE_SIDE) ** 2
        reach = self.agreement * max(context.target.image_size)
        image = require_regions(context.source).image
        return flow_from_regions(regions, source, target, image, smoothness, reach, context.max_bytes)

    def _check_memory(self, channels: int, n: int, m: int, max_bytes: int) -> None:
        needed = 4 * (3 * (n + m) * self.bins**2 * channels + 16 * max(n, m) ** 2)
        if needed > max_bytes:
            raise OutOfMemoryError(
                f"matching {n} boxes with {m} takes some {needed} bytes, and {max_bytes} are allowed: "
                "raise --max-memory, or take fewer boxes or bins (--set count=..., --set bins=...)"
            )


def embed_boxes(features: RegionFeatures, boxes: Tensor, embedding: Embedding, max_bytes: int) -> Tensor:
    """SCNet's embeddings (N, E) of boxes (N, 4), in pixels of the image.

    Raises InputError if the features are not those of SCNet, or it does not have this embedding.
    """
    network = features.network
    if network is None:
        raise InputError(
            "these features have no embedding of regions: give those of SCNet, --features scnet --weights FILE"
        )
    first, last = features.grid.to_cells(boxes[:, :2]), features.grid.to_cells(boxes[:, 2:])
    width = network.appearance.in_features
    with torch.no_grad():
        parts = [
            network.embed(
                pool_maxima(features.descriptors, first[begin:end], last[begin:end], network.config.bins), embedding
            )
            for begin, end in row_blocks(len(boxes), width, max_bytes, boxes.device)
        ]
    return torch.cat(parts)


def subtract_mean(descriptors: Sequence[Tensor], bins: int, share: float) -> list[Tensor]:
    """Box descriptors of two images, (N, bins^2 C) and (M, bins^2 C), less a ``share`` of their mean; unit length.

    The mean (C,) is over all bins of all boxes, both images weighing the same. A bin that is nearly the mean, such as
    one without texture, is small afterwards and contributes little to its box.
    """
    binned = [each.reshape(len(each), bins * bins, -1) for each in descriptors]
    mean = torch.stack([each.mean(dim=(0, 1)) for each in binned]).mean(dim=0) * share
    return [F.normalize((each - mean).flatten(1), dim=1) for each in binned]


@dataclass(frozen=True)
class NaiveAppearance(ProposalFlow):
    """z = s: the similarity of appearance alone."""

    def scores(self, similarity: Tensor, source: Regions, target: Regions, max_bytes: int) -> Tensor:  # noqa: ARG002
        return similarity


@dataclass(frozen=True)
class RegionNeighbours(NaiveAppearance):
    """z = <f_i, f_j>, as SCNet matches regions by their features alone (SCNet-A; Han et al., ICCV 2017).

    Every box goes to the most similar box of the target, of any aspect, and stays as it is; points follow the best box,
    as in the paper's flow. SCNet has 1000 boxes of Randomized Prim, of which there is no maintained package, and the
    maxima of 7 x 7 bins; here boxes are those of selective search, and bins have the means of the features.
    """

    proposals: Proposals = Proposals.selective_search
    count: int = 1000
    bins: int = 7
    centring: float = 0.0
    sharpness: float = 1.0
    aspect: float = 1e6
    overlap: float = 1.0
    agreement: float = 0.0
    lattice: int = 100
    smoothness: float = 20.0


@dataclass(frozen=True)
class ProbabilisticHough(ProposalFlow):
    """z: similarity times Hough votes, see `hough_scores`."""

    def scores(self, similarity: Tensor, source: Regions, target: Regions, max_bytes: int) -> Tensor:  # noqa: ARG002
        return hough_scores(similarity, source, target)


@dataclass(frozen=True)
class LocalOffsets(ProposalFlow):
    """z: similarity times agreement with the offsets of overlapping boxes, see `offset_scores`.

    distance_weight: penalty for a pixel of difference in position, the longer side having IMAGE_SIDE of them.
    scale_weight: penalty for a difference of 1 in the ratio of areas. Both as in the released code.
    updates: ``in-turn`` as in the released code, see `offset_scores_in_turn`; ``at-once`` as in the paper.
    """

    limits: ClassVar[Limits] = {**ProposalFlow.limits, "distance_weight": (0, 1e3), "scale_weight": (0, 1e3)}

    distance_weight: float = 0.05
    scale_weight: float = 0.3
    updates: Updates = Updates.at_once

    def scores(self, similarity: Tensor, source: Regions, target: Regions, max_bytes: int) -> Tensor:
        if self.updates is Updates.in_turn:
            return offset_scores_in_turn(similarity, source, target, self.distance_weight, self.scale_weight)
        return offset_scores(similarity, source, target, self.distance_weight, self.scale_weight, max_bytes)
