"""Measures of AnchorNet's filter banks: their response maps should be sparse, diverse, and together cover the object.

Response maps are (..., K, h, w), >= 0: the K filters of the bank of a class, on a grid. The peak of a channel is the
(first) cell with its strongest response. All functions are pure.
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
"""The share of cells whose energy `sparsity` sums."""
NEAR = 0.1
"""The radius covered by a peak, as a share of the longer side of the object's box."""


def sparsity(maps: Tensor) -> Tensor:
    """The share of a map's energy (squared responses) in its strongest 5 % of cells: (..., h, w) to (...).

    About 0.05 for a flat map, 1 for a map with one active cell, and 0 for a map of zeros. No background level is
    subtracted, so a constant response to everything lowers the sparsity.
    """
    energy = maps.flatten(-2).double().square()
    cells = max(1, round(BEST_CELLS * energy.shape[-1]))
    best, whole = energy.topk(cells, dim=-1).values.sum(dim=-1), energy.sum(dim=-1)
    return torch.where(whole > 0, best / whole.clamp(min=torch.finfo(whole.dtype).tiny), 0)


def diversity(maps: Tensor) -> Tensor:
    """The mean cosine between the maps of two channels, over all pairs: (..., K, h, w) to (...). Lower is more diverse.

    NaN for K = 1. The cosine is that of equation (4), not squared.
    """
    unit = F.normalize(maps.flatten(-2).double(), dim=-1)
    channels = unit.shape[-2]
    pairs = unit.sum(dim=-2).square().sum(dim=-1) - unit.square().sum(dim=(-2, -1))
    return pairs / (channels * (channels - 1)) if channels > 1 else torch.full_like(pairs, math.nan)


def peaks(maps: Tensor) -> Tensor:
    """The index of each channel's peak in row-major order: (..., h, w) to (...) int64."""
    return maps.flatten(-2).argmax(dim=-1)


def peaks_in(boxes: Sequence[Box], maps: Tensor, grid: Grid) -> float:
    """The share of channels (K, h, w) whose peak (the centre of the cell) lies in one of the boxes, in pixels."""
    inside = torch.stack([_within(box, grid) for box in boxes]).any(dim=0)
    return float(inside[peaks(maps).cpu()].double().mean())


def coverage(box: Box, maps: Tensor, grid: Grid) -> float:
    """The share of the cells in a box that lie near the peak of any channel (K, h, w).

    Near means at most ``NEAR`` times the longer side of the box. Cells and peaks are compared by their centres, in
    pixels. NaN if no cell's centre lies in the box.
    """
    left, top, right, bottom = box
    centres = grid.centres().double()
    cells, peak_centres = centres[_within(box, grid)], centres[peaks(maps).cpu()]
    near = torch.cdist(cells, peak_centres, compute_mode="donot_use_mm_for_euclid_dist") <= NEAR * max(
        right - left, bottom - top
    )
    return float(near.any(dim=1).double().mean())


def class_scores(maps: Tensor, thresholds: Tensor, classes: int) -> Tensor:
    """The scores (..., N) of N classes: the mean over a bank of each filter's strongest response minus its threshold.

    maps: (..., N K, h, w), bank after bank. thresholds: (N K,).
    """
    strongest = maps.amax(dim=(-2, -1)) - thresholds
    return strongest.reshape(*strongest.shape[:-1], classes, -1).mean(dim=-1)


def strongest_channels(maxima: Tensor, count: int) -> list[int]:
    """Up to ``count`` channels with the highest mean response, in falling order (stable).

    maxima: (images, K), the strongest response of each channel in each image.
    """
    return maxima.double().mean(dim=0).argsort(descending=True, stable=True)[:count].tolist()


def object_map(maps: Tensor) -> Tensor:
    """A signed map of the object: (K, h, w) to (h, w).

    The sum over channels, each divided by its strongest response, minus its mean over cells. The box with the largest
    sum leaves out cells with less than the mean response.
    """
    strongest = maps.amax(dim=(-2, -1), keepdim=True)
    summed = (maps / strongest.clamp(min=torch.finfo(maps.dtype).tiny)).sum(dim=0)
    return summed - summed.mean()


def _within(box: Box, grid: Grid) -> Tensor:
    """Which cells have their centre in the box: (h w,) bool."""
    left, top, right, bottom = box
    x, y = grid.centres().double().unbind(dim=-1)
    return (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
