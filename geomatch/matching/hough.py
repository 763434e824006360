"""Hough voting on feature grids: matches agree on a displacement before they are chosen.

The dense cousin of Proposal Flow's probabilistic Hough matching, as in Hyperpixel Flow (Min et al., ICCV 2019,
section 3.3): every pair of cells votes, with its sharpened similarity, for its displacement; the votes are smoothed;
a pair's score is its similarity times the votes for its displacement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.errors import OutOfMemoryError
from geomatch.matching.base import Method, Placement
from geomatch.matching.search import Partners, best_partners, place


@dataclass(frozen=True)
class HoughVoting(Method):
    """Best partners by z_ij = s_ij * H[displacement of i, j], s = max(0, cosine).

    sharpness: power of the similarity a pair votes with. blur: standard deviation of the smoothing of votes, as a
    share of the grids' mean side. window, temperature: of the refinement below a cell, as for nearest neighbours.
    """

    sharpness: float = 3.0
    blur: float = 0.06
    window: int = 1
    temperature: float = 0.05

    def __call__(self, source: FeatureMap, target: FeatureMap, max_bytes: int) -> tuple[Placement, Placement]:
        partners = self.partners(source, target, max_bytes)
        return place(source, target, partners, self.window, self.temperature, max_bytes)

    def partners(self, source: FeatureMap, target: FeatureMap, max_bytes: int) -> Partners:
        """The best partners both ways; displacements are counted in cells. Raises OutOfMemoryError."""
        a, b = source.descriptors.flatten(1), target.descriptors.flatten(1)
        (hs, ws), (ht, wt) = source.grid.shape, target.grid.shape
        if 16 * ws * b.shape[1] > max_bytes:
            raise OutOfMemoryError(
                f"voting over {hs}x{ws} cells does not fit into {max_bytes} bytes: "
                "raise --max-memory or choose a faster --preset"
            )
        blur = self.blur * (hs * ws * ht * wt) ** 0.25
        votes = displacement_votes(a, b, source.grid.shape, target.grid.shape, self.sharpness, blur)
        windows = votes.unfold(0, ht, 1).unfold(1, wt, 1)

        def score_rows(start: int, stop: int) -> Tensor:
            cells = torch.arange(start, stop, device=a.device)
            weights = windows[hs - 1 - cells // ws, ws - 1 - cells % ws].flatten(1)
            return (a[:, start:stop].mT @ b).relu_().mul_(weights)

        return best_partners(score_rows, (a.shape[1], b.shape[1]), max_bytes, a.device)


def displacement_votes(
    a: Tensor,
    b: Tensor,
    source_shape: tuple[int, int],
    target_shape: tuple[int, int],
    sharpness: float,
    blur: float,
) -> Tensor:
    """Smoothed votes H (hs + ht - 1, ws + wt - 1) for the displacements of all pairs of cells.

    a: (C, hs * ws), b: (C, ht * wt). The displacement (dy, dx) = target cell - source cell has its bin at
    (dy + hs - 1, dx + ws - 1); ``sharpness`` is the power of a similarity that votes, ``blur`` the
    smoothing's standard deviation in bins.
    """
    (hs, ws), (ht, wt) = source_shape, target_shape
    votes = a.new_zeros(hs + ht - 1, ws + wt - 1)
    for row in range(hs):
        scores = (a[:, row * ws : (row + 1) * ws].mT @ b).relu_().pow_(sharpness).reshape(ws, ht, wt)
        # Shift source column x by ws - 1 - x to the right, so that equal displacements stand in one column: rows
        # padded to wt + ws and cut anew at wt + ws - 1 each slip one further than the one before.
        padded = F.pad(scores.flip(0).transpose(0, 1), (0, ws)).reshape(ht, -1)
        slipped = padded[:, : ws * (wt + ws - 1)].reshape(ht, ws, wt + ws - 1)
        votes[hs - 1 - row : hs - 1 - row + ht] += slipped.sum(dim=1)
    return _blur(votes, blur)


def _blur(values: Tensor, deviation: float) -> Tensor:
    """Gaussian smoothing of (H, W), zero beyond the border."""
    radius = max(1, math.ceil(3 * deviation))
    offsets = torch.arange(-radius, radius + 1, device=values.device)
    kernel = torch.exp(-0.5 * (offsets / deviation) ** 2)
    kernel = kernel / kernel.sum()
    blurred = F.conv2d(values[None, None], kernel.reshape(1, 1, -1, 1), padding=(radius, 0))
    return F.conv2d(blurred, kernel.reshape(1, 1, 1, -1), padding=(0, radius))[0, 0]
