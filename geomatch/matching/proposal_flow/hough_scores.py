"""Probabilistic Hough matching of boxes: how many other pairs of boxes agree with a pair (Cho et al., CVPR 2015).

A pair of boxes votes for where the lower right corner of image A lies in image B, and for the scale between them, the
base-2 logarithm of the ratio of areas. The position is counted over twice the width and height of B in square cells,
about CELLS of them, but not smaller than LEAST_CELL pixels; the scale in SCALES bins from -LARGEST_SCALE to
LARGEST_SCALE. Pairs outside these ranges neither vote nor match.
"""

from __future__ import annotations

import math
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.matching.proposal_flow.regions import Regions

CELLS: Final = 8000
LEAST_CELL: Final = 5.0
SCALES: Final = 20
LARGEST_SCALE: Final = 4.0
_DEVIATION: Final = 5 / (4 * (2 * math.log(2)) ** 0.5)
"""Of the Gaussian that smooths votes, 1.06 bins: its full width at half maximum is 2.5 bins."""


def hough_scores(similarity: Tensor, source: Regions, target: Regions) -> Tensor:
    """z_ij = s_ij H[bin of i, j] (N, M) float32, of similarities s (N, M) of the boxes; H are the smoothed votes."""
    bins, shape = hough_bins(source, target)
    bins = torch.where(similarity > 0, bins, -1)
    votes = smooth_votes(hough_votes(similarity, bins, shape)).flatten()
    return torch.where(bins >= 0, similarity * votes[bins.clamp(min=0)], 0.0)


def hough_bins(
    source: Regions, target: Regions, coarser: float = 1.0, scales: int = SCALES
) -> tuple[Tensor, tuple[int, int, int]]:
    """The bin (N, M) int64 that each pair votes for, -1 for none, and how many there are: (scales, rows, columns).

    coarser: sides of the cells as a multiple of theirs in probabilistic Hough matching. scales: bins of the scale.
    """
    wide, high = 2 * target.span[0], 2 * target.span[1]
    cell = coarser * max((wide * high / CELLS) ** 0.5, LEAST_CELL)
    columns, rows = max(1, round(wide / cell)), max(1, round(high / cell))
    beyond = (source.corner.new_tensor(source.span) - source.corner) / source.size
    position = target.corner + beyond[:, None] * target.size
    scale = (target.area / source.area[:, None]).log2()
    index = (
        ((scale + LARGEST_SCALE) * (scales / (2 * LARGEST_SCALE))).floor().long(),
        (position[..., 1] * (rows / high)).floor().long(),
        (position[..., 0] * (columns / wide)).floor().long(),
    )
    shape = (scales, rows, columns)
    inside = torch.stack([(at >= 0) & (at < length) for at, length in zip(index, shape, strict=True)]).all(dim=0)
    return torch.where(inside, (index[0] * rows + index[1]) * columns + index[2], -1), shape


def hough_votes(similarity: Tensor, bins: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Votes of the given shape, float32. Each box adds to a bin the largest of its similarities that vote for it.

    similarity, bins: (N, M); a bin of -1 is no vote.
    """
    box, partner = (bins >= 0).nonzero(as_tuple=True)
    size = math.prod(shape)
    ballots, ballot = torch.unique(box * size + bins[box, partner], return_inverse=True)
    best = similarity.new_zeros(len(ballots)).scatter_reduce(0, ballot, similarity[box, partner], "amax")
    # In float64, so that the order of summation, which changes on a GPU, does not change the result.
    votes = torch.zeros(size, dtype=torch.float64, device=bins.device).index_add_(0, ballots % size, best.double())
    return votes.float().reshape(shape)


def smooth_votes(votes: Tensor) -> Tensor:
    """Votes (S, H, W) smoothed by a Gaussian of 5 x 5 x 5 bins; beyond the border there are none."""
    steps = torch.arange(-2.0, 3.0, device=votes.device)
    kernel = torch.exp(-0.5 * (steps / _DEVIATION) ** 2)
    kernel = kernel / kernel.sum()
    for shape in ((1, 1, 5, 1, 1), (1, 1, 1, 5, 1), (1, 1, 1, 1, 5)):
        padding = tuple(length // 2 for length in shape[2:])
        votes = F.conv3d(votes[None, None], kernel.reshape(shape), padding=padding)[0, 0]
    return votes
