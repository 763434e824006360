"""What AnchorNet claims of its banks, measured: maps are sparse, diverse, and together cover the object.

Response maps are (..., K, h, w), >= 0: K channels, the filters of one class's bank, on a grid. A channel's peak is the
cell where it responds most, of equals the first. All functions are pure functions of their arguments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.annotations import Box
from geomatch.geometry.grid import Grid

BEST_CELLS = 0.05
"""Share of the cells that sparsity looks at."""
NEAR = 0.1
"""How far round a peak the object counts as covered, as a share of the longer side of its box."""


def sparsity(maps: Tensor) -> Tensor:
    """The share of a map's energy, its squared responses, that its best 5 % of cells hold: (...) of (..., h, w).

    0.05 (as nearly as whole cells allow) for a flat map, 1 for one that fires on one spot; 0 for one that is 0
    everywhere. The responses are taken as they are, floor and all, so a channel that is never quite silent is less
    sparse than it looks.
    """
    energy = maps.flatten(-2).double().square()
    cells = max(1, round(BEST_CELLS * energy.shape[-1]))
    best, whole = energy.topk(cells, dim=-1).values.sum(dim=-1), energy.sum(dim=-1)
    return torch.where(whole > 0, best / whole.clamp(min=torch.finfo(whole.dtype).tiny), 0)


def diversity(maps: Tensor) -> Tensor:
    """The mean cosine between the maps of two channels, over all pairs: (...) of (..., K, h, w). Less is more diverse.

    NaN for a bank of one. The cosine is that of equation (4), not squared.
    """
    unit = F.normalize(maps.flatten(-2).double(), dim=-1)
    channels = unit.shape[-2]
    pairs = unit.sum(dim=-2).square().sum(dim=-1) - unit.square().sum(dim=(-2, -1))
    return pairs / (channels * (channels - 1)) if channels > 1 else torch.full_like(pairs, math.nan)


def peaks(maps: Tensor) -> Tensor:
    """The number of each channel's peak among the cells in row-major order: (...) int64 of (..., h, w)."""
    return maps.flatten(-2).argmax(dim=-1)


def peaks_in(boxes: Sequence[Box], maps: Tensor, grid: Grid) -> float:
    """The share of the channels (K, h, w) whose peak, its cell's centre, lies in one of the boxes, in pixels."""
    inside = torch.stack([_within(box, grid) for box in boxes]).any(dim=0)
    return float(inside[peaks(maps).cpu()].double().mean())


def coverage(box: Box, maps: Tensor, grid: Grid) -> float:
    """The share of a box's cells within ``NEAR`` of its longer side of the peak of some channel (K, h, w).

    box: in pixels. Cells are those whose centres lie in the box, and so distances are between centres, in pixels.
    NaN if there are none.
    """
    left, top, right, bottom = box
    centres = grid.centres().double()
    cells, tips = centres[_within(box, grid)], centres[peaks(maps).cpu()]
    near = torch.cdist(cells, tips, compute_mode="donot_use_mm_for_euclid_dist") <= NEAR * max(
        right - left, bottom - top
    )
    return float(near.any(dim=1).double().mean())


def class_scores(maps: Tensor, thresholds: Tensor, classes: int) -> Tensor:
    """How surely an image shows each class: the mean over its bank of how far each filter's strongest response exceeds
    its threshold, (..., N).

    maps: (..., N K, h, w), bank after bank. thresholds: (N K,).
    """
    strongest = maps.amax(dim=(-2, -1)) - thresholds
    return strongest.reshape(*strongest.shape[:-1], classes, -1).mean(dim=-1)


def strongest_channels(maxima: Tensor, count: int) -> list[int]:
    """The ``count`` channels, or all, that on average over images respond most, falling; of equals the first.

    maxima: (images, K), each channel's strongest response.
    """
    return maxima.double().mean(dim=0).argsort(descending=True, stable=True)[:count].tolist()


def object_evidence(maps: Tensor) -> Tensor:
    """How much speaks for the object at each cell, positive and negative: (h, w) of a bank's maps (K, h, w).

    The sum over channels, each divided by its strongest response so that all have the same say, less its mean over
    cells: the best box of it leaves out what responds less than average.
    """
    strongest = maps.amax(dim=(-2, -1), keepdim=True)
    summed = (maps / strongest.clamp(min=torch.finfo(maps.dtype).tiny)).sum(dim=0)
    return summed - summed.mean()


def _within(box: Box, grid: Grid) -> Tensor:
    """Which cells' centres lie in the box: (h w) bool."""
    left, top, right, bottom = box
    x, y = grid.centres().double().unbind(dim=-1)
    return (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
