"""Proposal Flow: boxes of two images are matched by what they show and by how matches agree (Ham et al., PAMI 2018).

Boxes i of image A and j of image B are compared by their pooled features, s_ij = max(0, <f_i, f_j>)^p, if the ratio of
their aspects lies between 1/2 and 2; otherwise s_ij = 0. The paper has p = 1, and frees the boxes' HOG of the mean and
covariance of photographs; here the mean of what the pair's own boxes show is taken away, and p is 6.
Box i goes to the j of largest z_ij, which is

- s_ij alone: naive appearance matching (`NaiveAppearance`);
- s_ij H[bin of i, j]: probabilistic Hough matching (`ProbabilisticHough`), H being votes of all pairs for where image A
  would lie in B;
- s_ij times how well the box moves as those around it do: local offset matching (`LocalOffsets`).

Box j is then moved to where box i lies between the boxes of B (`box_refinement`), which the paper does not do; z_ij is
of box j as it was. The matches become a dense flow in `region_flow`. Constants in pixels are those of the released
code, for images whose longer side is 300 pixels, as PF-WILLOW's; other images' boxes are scaled to that.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.correspondence import FeatureMap, RegionMatches
from geomatch.errors import OutOfMemoryError
from geomatch.matching.base import Limits, Matcher, TargetPoints
from geomatch.matching.context import MatchContext
from geomatch.matching.proposal_flow.box_hog import hog_of_boxes
from geomatch.matching.proposal_flow.box_refinement import refined_boxes
from geomatch.matching.proposal_flow.pooling import pool
from geomatch.matching.proposal_flow.proposals import (
    inside_border,
    sliding_windows,
    thinned,
    uniform_boxes,
    whole_image,
)
from geomatch.matching.proposal_flow.region_flow import flow_from_regions, lattice_over, lay_over
from geomatch.matching.proposal_flow.selective_search import selective_search
from geomatch.matching.similarity import argmax_of_rows, row_blocks

IMAGE_SIDE: Final = 300.0
"""Pixels of the longer side of the images that the methods' constants are made for."""

WINDOW_SCALES: Final = (0.1, 0.15, 0.225, 0.34, 0.5, 0.75)
"""Sides of the windows to match, which are square, as shares of the geometric mean of the image's sides."""

_ROUNDING: Final = 1e-4


class Appearance(StrEnum):
    """What boxes are compared by: the features pooled over them, or HOG of their own pixels, whatever the features."""

    features = "features"
    hog = "hog"


class Proposals(StrEnum):
    """Where boxes come from."""

    sliding = "sliding"
    uniform = "uniform"
    selective_search = "selective-search"


@dataclass(frozen=True)
class Regions:
    """Boxes of an image, as they are and scaled to IMAGE_SIDE, where the image's upper left corner is (0, 0).

    boxes: (N, 4) float32, left, top, right, bottom in pixels of the image. corner: (N, 2), upper left, and size (N, 2),
    both x then y and scaled. span: (width, height) of the scaled image.
    """

    boxes: Tensor
    corner: Tensor
    size: Tensor
    span: tuple[float, float]

    @classmethod
    def of(cls, boxes: Tensor, image_size: tuple[int, int]) -> Regions:
        """From boxes (N, 4) in pixels of an image of (height, width)."""
        scale = IMAGE_SIDE / max(image_size)
        corner, size = (boxes[:, :2] + 0.5) * scale, (boxes[:, 2:] - boxes[:, :2]) * scale
        return cls(boxes, corner, size, (image_size[1] * scale, image_size[0] * scale))

    @property
    def centre(self) -> Tensor:
        return self.corner + self.size / 2

    @property
    def area(self) -> Tensor:
        return self.size.prod(dim=1)

    def admits(self, other: Regions) -> Tensor:
        """(N, M) bool: whether the ratio of aspects lies in (1/2, 2), which rounding must not decide."""
        first, second = (each.size[:, 0] / each.size[:, 1] for each in (self, other))
        ratio = first[:, None] / second
        return (ratio > 0.5 * (1 + _ROUNDING)) & (ratio < 2 * (1 - _ROUNDING))

    def overlaps(self) -> Tensor:
        """(N, N) bool: which boxes have an area in common; each with itself, too."""
        return (self._common_sides() > 0).all(dim=2)

    def shares_of_union(self) -> Tensor:
        """(N, N) float32: intersection over union of all pairs of boxes."""
        common = self._common_sides().clamp(min=0).prod(dim=2)
        return common / (self.area[:, None] + self.area - common)

    def _common_sides(self) -> Tensor:
        """(N, N, 2): width and height that boxes have in common; negative where there is a gap."""
        end = self.corner + self.size
        return torch.minimum(end[:, None], end) - torch.maximum(self.corner[:, None], self.corner)


@dataclass(frozen=True)
class ProposalFlow(Matcher):
    """What the three ways of matching share.

    proposals: where boxes come from. count: about how many of them. seed: of random ones. appearance: what boxes are
    compared by (in the paper HOG). bins: along either axis, that each is cut into (in the paper 8, for HOG). centring:
    how much of the mean of what the pair's boxes show is taken away from all, 1 being all of it. sharpness: the power p
    of the similarity. overlap, temperature: each box's partner is refined below the spacing of boxes by a soft-argmax
    over the target's admissible boxes whose intersection over union with it is at least ``overlap``, of a temperature
    in units of cosine similarity (see `refined_boxes`); 1 leaves partners as they are. agreement: distance at which
    boxes agree on where a point lies, as a share of the target's longer side; 0 has every point follow the best box
    alone (see `region_flow`). lattice: points along the longer side of the dense flow. smoothness: lambda of its filter
    for a point a pixel, IMAGE_SIDE along that side; it falls with the square of their spacing, so that the flow is
    smooth over the same distances on any lattice. (The paper's is 20, and tears more.)

    The paper's flow has overlap 1 and agreement 0, and is made of pixels, to which lattice 100 is nearer.
    """

    limits: ClassVar[Limits] = {
        "count": (1, 10_000),
        "seed": (0, 2**31),
        "bins": (1, 32),
        "centring": (0, 1),
        "sharpness": (1e-3, 100),
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
    overlap: float = 0.1
    temperature: float = 0.1
    agreement: float = 0.05
    lattice: int = 50
    smoothness: float = 60.0

    @abstractmethod
    def scores(self, similarity: Tensor, source: Regions, target: Regions, max_bytes: int) -> Tensor:
        """z_ij (N, M) float32, not negative, of similarities s_ij (N, M), which are zero for what is not admissible."""

    def prepare(self, features: FeatureMap, image: Tensor) -> FeatureMap:
        if features.image is None:
            features = replace(features, image=image)
        if self.proposals is Proposals.selective_search and features.boxes is None:
            boxes = thinned(inside_border(selective_search(image), features.image_size), self.count)
            features = replace(features, boxes=torch.from_numpy(boxes).to(features.descriptors))
        if self.appearance is Appearance.hog and features.shown is None:
            shown = hog_of_boxes(image, self.regions(features).boxes.cpu(), self.bins)
            features = replace(features, shown=shown.to(features.descriptors))
        return features

    def __call__(self, context: MatchContext) -> tuple[TargetPoints, TargetPoints]:
        source, target, max_bytes = context.source, context.target, context.max_bytes
        a, b = self.regions(source), self.regions(target)
        self._check_memory(source.descriptors.shape[0], len(a.boxes), len(b.boxes), max_bytes)
        shown = [self.show(each, of, max_bytes) for each, of in ((source, a), (target, b))]
        first, second = centred(shown, self.bins, self.centring)
        cosine = (first @ second.mT).relu_()
        there = self.match(cosine, second, a, b, max_bytes)
        back = self.match(cosine.mT, first, b, a, max_bytes)
        return self._flow(there, source, target, max_bytes), self._flow(back, target, source, max_bytes)

    def regions(self, features: FeatureMap) -> Regions:
        """The boxes of an image, the last being the whole of it, on the device of its features."""
        size = features.image_size
        match self.proposals:
            case Proposals.sliding:
                boxes = sliding_windows(size, WINDOW_SCALES, (1.0,), stride=0.5 * (600 / self.count) ** 0.5)
            case Proposals.uniform:
                boxes = uniform_boxes(size, self.count, self.seed)
            case Proposals.selective_search:
                if features.boxes is None:
                    raise ValueError("selective search needs the image: prepare the features first")
                boxes = features.boxes.double().cpu().numpy()
        every = np.concatenate((boxes, whole_image(size)))
        return Regions.of(torch.from_numpy(every).to(features.descriptors), size)

    def show(self, features: FeatureMap, regions: Regions, max_bytes: int) -> Tensor:
        """What each of N boxes shows: (N, bins^2 C) float32, by row, column, channel."""
        if self.appearance is Appearance.features:
            return pool(features, regions.boxes, self.bins, max_bytes)
        if features.shown is None:
            raise ValueError("HOG of boxes needs the image: prepare the features first")
        return features.shown

    def match(self, cosine: Tensor, shown: Tensor, source: Regions, target: Regions, max_bytes: int) -> RegionMatches:
        """The best match of each of N boxes among M others, refined.

        cosine: (N, M), not negative, whether the boxes are admissible or not. shown: (M, D), what the target's show.
        """
        admissible = source.admits(target)
        scores = self.scores(cosine.pow(self.sharpness) * admissible, source, target, max_bytes)
        partners = argmax_of_rows(scores.contiguous())
        best = scores.gather(1, partners[:, None])[:, 0]
        placed = target.boxes[partners]
        if self.overlap < 1:
            near = admissible & (target.shares_of_union() >= self.overlap)[partners]
            own = (shown @ shown.mT).relu_()
            placed = refined_boxes(target.boxes, partners, near, cosine, own, self.temperature)
        order = best.argsort(descending=True, stable=True)
        return RegionMatches(source.boxes[order], placed[order], best[order])

    def _flow(self, regions: RegionMatches, source: FeatureMap, target: FeatureMap, max_bytes: int) -> TargetPoints:
        here, there = (lattice_over(features.image_size, self.lattice) for features in (source, target))
        if bool((regions.score > 0).any()):
            smoothness = self.smoothness * (max(here.shape) / IMAGE_SIDE) ** 2
            reach = self.agreement * max(target.image_size)
            return flow_from_regions(regions, here, there, source.image, smoothness, reach, max_bytes)
        return lay_over(regions, here, there)

    def _check_memory(self, channels: int, n: int, m: int, max_bytes: int) -> None:
        needed = 4 * (3 * (n + m) * self.bins**2 * channels + 16 * max(n, m) ** 2)
        if needed > max_bytes:
            raise OutOfMemoryError(
                f"matching {n} boxes with {m} takes some {needed} bytes, and {max_bytes} are allowed: "
                "raise --max-memory, or take fewer boxes or bins (--set count=..., --set bins=...)"
            )


def centred(shown: Sequence[Tensor], bins: int, share: float) -> list[Tensor]:
    """What the boxes of two images show, (N, bins^2 C) and (M, bins^2 C), without a ``share`` of the mean descriptor
    (C,) of all their bins, both images weighing the same; each box of unit length.

    A bin that is nearly the mean, such as one without texture, is small afterwards and has little to say in its box.
    """
    cut = [each.reshape(len(each), bins * bins, -1) for each in shown]
    common = torch.stack([each.mean(dim=(0, 1)) for each in cut]).mean(dim=0) * share
    return [F.normalize((each - common).flatten(1), dim=1) for each in cut]


@dataclass(frozen=True)
class NaiveAppearance(ProposalFlow):
    """z = s: what a box shows, and nothing else."""

    def scores(self, similarity: Tensor, source: Regions, target: Regions, max_bytes: int) -> Tensor:  # noqa: ARG002
        return similarity


@dataclass(frozen=True)
class ProbabilisticHough(ProposalFlow):
    """z_ij = s_ij H[bin of i, j], after Cho et al. (CVPR 2015).

    A pair of boxes says where the lower right corner of image A lies in B, and how much larger things are there, as the
    base-2 logarithm of the ratio of areas. The place is counted over twice the width and height of B, in square cells,
    of which there are about CELLS unless they became smaller than LEAST_CELL pixels; the scale in SCALES bins from
    -LARGEST_SCALE to LARGEST_SCALE. What lies outside neither votes nor matches.
    """

    def scores(self, similarity: Tensor, source: Regions, target: Regions, max_bytes: int) -> Tensor:  # noqa: ARG002
        bins, shape = hough_bins(source, target)
        bins = torch.where(similarity > 0, bins, -1)
        votes = smoothed(hough_votes(similarity, bins, shape)).flatten()
        return torch.where(bins >= 0, similarity * votes[bins.clamp(min=0)], 0.0)


CELLS: Final = 8000
LEAST_CELL: Final = 5.0
SCALES: Final = 20
LARGEST_SCALE: Final = 4.0
_BLUR: Final = 5 / (4 * (2 * math.log(2)) ** 0.5)  # 1.06 bins: five are twice the width at half height


def hough_bins(source: Regions, target: Regions) -> tuple[Tensor, tuple[int, int, int]]:
    """The bin (N, M) int64 that each pair votes for, -1 for none, and how many there are: (scales, rows, columns)."""
    wide, high = 2 * target.span[0], 2 * target.span[1]
    cell = max((wide * high / CELLS) ** 0.5, LEAST_CELL)
    columns, rows = max(1, round(wide / cell)), max(1, round(high / cell))
    beyond = (source.corner.new_tensor(source.span) - source.corner) / source.size
    landing = target.corner + beyond[:, None] * target.size
    scale = (target.area / source.area[:, None]).log2()
    place = (
        ((scale + LARGEST_SCALE) * (SCALES / (2 * LARGEST_SCALE))).floor().long(),
        (landing[..., 1] * (rows / high)).floor().long(),
        (landing[..., 0] * (columns / wide)).floor().long(),
    )
    shape = (SCALES, rows, columns)
    inside = torch.stack([(at >= 0) & (at < length) for at, length in zip(place, shape, strict=True)]).all(dim=0)
    return torch.where(inside, (place[0] * rows + place[1]) * columns + place[2], -1), shape


def hough_votes(similarity: Tensor, bins: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Votes of the given shape, float32. A box adds to a bin the best of its similarities (N, M) that vote for it."""
    box, partner = (bins >= 0).nonzero(as_tuple=True)
    size = math.prod(shape)
    ballots, ballot = torch.unique(box * size + bins[box, partner], return_inverse=True)
    best = similarity.new_zeros(len(ballots)).scatter_reduce(0, ballot, similarity[box, partner], "amax")
    # In float64, lest the order of summation, which a GPU does not keep, show in the result.
    votes = torch.zeros(size, dtype=torch.float64, device=bins.device).index_add_(0, ballots % size, best.double())
    return votes.float().reshape(shape)


def smoothed(votes: Tensor) -> Tensor:
    """Votes (S, H, W) under a Gaussian of 5 x 5 x 5 bins; beyond the border there are none."""
    steps = torch.arange(-2.0, 3.0, device=votes.device)
    kernel = torch.exp(-0.5 * (steps / _BLUR) ** 2)
    kernel = kernel / kernel.sum()
    for shape in ((1, 1, 5, 1, 1), (1, 1, 1, 5, 1), (1, 1, 1, 1, 5)):
        padding = tuple(length // 2 for length in shape[2:])
        votes = F.conv3d(votes[None, None], kernel.reshape(shape), padding=padding)[0, 0]
    return votes


@dataclass(frozen=True)
class LocalOffsets(ProposalFlow):
    """z_ij = s_ij exp(-.05 |o_xy - m_xy| - .3 |o_s - m_s|) sum of best s in N(i) / sum of best s of all boxes.

    o_ij = (difference of the centres, area of i / area of j). N(i) are the boxes that overlap i, m(i) the median of the
    offsets of their best matches by s.
    """

    limits: ClassVar[Limits] = {**ProposalFlow.limits, "distance_weight": (0, 1e3), "scale_weight": (0, 1e3)}

    distance_weight: float = 0.05
    scale_weight: float = 0.3

    def scores(self, similarity: Tensor, source: Regions, target: Regions, max_bytes: int) -> Tensor:
        best, partner = similarity.max(dim=1).values, argmax_of_rows(similarity.contiguous())
        across, down = (source.centre[:, None] - target.centre).unbind(dim=2)
        scale = source.area[:, None] / target.area
        around = source.overlaps() & (best > 0)
        offsets = torch.stack([each.gather(1, partner[:, None])[:, 0] for each in (across, down, scale)])
        x, y, s = neighbours_median(offsets, around, max_bytes)[:, :, None]
        distance = torch.hypot(across - x, down - y)
        agreement = torch.exp(-self.distance_weight * distance - self.scale_weight * (scale - s).abs())
        support = (around * best).sum(dim=1) / best.sum().clamp(min=1e-12)
        return similarity * agreement * support[:, None]


def neighbours_median(offsets: Tensor, around: Tensor, max_bytes: int) -> Tensor:
    """The median of offsets (C, N) over the neighbours of each box, around (N, N) bool: (C, N), each coordinate's own.

    By 20 steps of iteratively re-weighted least squares from the mean, as the released code, which starts from 1, where
    areas of windows of one size would keep it. Zero without neighbours.
    """
    medians = torch.zeros_like(offsets)
    for begin, end in row_blocks(len(around), len(around), max_bytes):
        members = around[begin:end].to(offsets)
        for values, median in zip(offsets, medians, strict=True):
            weights = members
            for _ in range(_MEDIAN_STEPS + 1):
                centre = (weights @ values) / weights.sum(dim=1).clamp(min=_LEAST_DISTANCE)
                weights = members / (values - centre[:, None]).abs().clamp(min=_LEAST_DISTANCE)
            median[begin:end] = centre
    return medians


_MEDIAN_STEPS: Final = 20
_LEAST_DISTANCE: Final = 1e-6
