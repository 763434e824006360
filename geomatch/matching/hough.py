"""Hough voting on feature grids: matches agree with those around them on a displacement before they are chosen.

The dense cousin of Proposal Flow's probabilistic Hough matching (Ham et al., CVPR 2016, section 3), as in Hyperpixel
Flow (Min et al., ICCV 2019, section 3.3), where all pairs of cells of two images vote for one displacement. Ours votes
anew around every source cell, so that scale and pose may change over the image; each pair votes with how much its cells
prefer each other; and the votes of neighbours are heard, too, as they would be if the target were mirrored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.errors import OutOfMemoryError
from geomatch.geometry.grid import Grid, read_cells
from geomatch.matching.base import REFINEMENT_LIMITS, Limits, Matcher, TargetPoints
from geomatch.matching.blur import blurred
from geomatch.matching.context import MatchContext
from geomatch.matching.similarity import best_partners, place


@dataclass(frozen=True)
class HoughVoting(Matcher):
    """Best partners by z_ij = <a_i, b_j> + weight log H_ij, both ways.

    H_ij is the sum of preferences p_kl over pairs k, l of cells, weighed with Gaussians of the distance from i to k and
    of the difference between the displacements from i to j and from k to l; of the latter both as they are and
    mirrored left to right. p_kl is the softmax of similarity over l times that over k. Votes are counted on grids of
    ``cells`` at most along the longer side, and their logarithm is read bilinearly.

    weight: of the votes against the similarity. preference: temperature of the two softmaxes. reach, blur: deviations
    of the two Gaussians, as shares of the ``cells``. window, temperature: of the refinement below a cell, as for
    nearest neighbours.
    """

    limits: ClassVar[Limits] = {
        "weight": (0, 1e3),
        "preference": (1e-3, 1e3),
        "reach": (1e-3, 1e3),
        "blur": (1e-3, 1e3),
        "cells": (1, 1000),
        **REFINEMENT_LIMITS,
    }

    weight: float = 0.2
    preference: float = 0.1
    reach: float = 1.0
    blur: float = 0.2
    cells: int = 20
    window: int = 1
    temperature: float = 0.05

    def __call__(self, context: MatchContext) -> tuple[TargetPoints, TargetPoints]:
        source, target, max_bytes = context.source, context.target, context.max_bytes
        coarse = source.pooled(self._factor(source.grid)), target.pooled(self._factor(target.grid))
        votes = self._log_votes(*coarse, max_bytes)
        a, b = source.descriptors.flatten(1), target.descriptors.flatten(1)
        there = interpolation(coarse[0].grid, source.grid, a.device)
        votes = self.weight * votes @ interpolation(coarse[1].grid, target.grid, b.device).mT

        def score_rows(start: int, stop: int) -> Tensor:
            return torch.addmm(there[start:stop] @ votes, a[:, start:stop].mT, b)

        partners = best_partners(score_rows, (a.shape[1], b.shape[1]), max_bytes, a.device)
        return place(source, target, partners, self.window, self.temperature, max_bytes)

    def _factor(self, grid: Grid) -> int:
        return math.ceil(max(grid.shape) / self.cells)

    def _log_votes(self, source: FeatureMap, target: FeatureMap, max_bytes: int) -> Tensor:
        (hs, ws), (ht, wt) = source.grid.shape, target.grid.shape
        if 12 * hs * ws * (hs + ht) * (ws + wt) > max_bytes:
            raise OutOfMemoryError(
                f"voting over {hs}x{ws} cells does not fit into {max_bytes} bytes: "
                "raise --max-memory or choose a faster --preset"
            )
        similarity = source.descriptors.flatten(1).mT @ target.descriptors.flatten(1) / self.preference
        preferences = (torch.softmax(similarity, dim=1) * torch.softmax(similarity, dim=0)).reshape(hs, ws, ht, wt)
        reach, blur = self.reach * self.cells, self.blur * self.cells
        votes = neighbours_votes(preferences, reach, blur)
        votes = votes + neighbours_votes(preferences.flip(3), reach, blur).flip(3)
        return votes.clamp_(min=torch.finfo(votes.dtype).tiny).log_().reshape(hs * ws, ht * wt)


def neighbours_votes(preferences: Tensor, reach: float, blur: float) -> Tensor:
    """H (hs, ws, ht, wt) of preferences p of the same shape: how the pairs around each pair are displaced.

    H_ij = sum_kl p_kl exp(-|i - k|^2 / 2 reach^2) exp(-|(j - i) - (l - k)|^2 / 2 blur^2), everything in cells.
    """
    votes = by_displacement(preferences)
    return blurred(votes, {0: reach, 1: reach, 2: blur, 3: blur})[_places(preferences)]


def by_displacement(values: Tensor) -> Tensor:
    """Values (hs, ws, ht, wt) of pairs of cells as (hs, ws, hs + ht - 1, ws + wt - 1): that of the pair (y, x), (v, u)
    stands at y, x, v - y + hs - 1, u - x + ws - 1; 0 where there is no pair."""
    hs, ws, ht, wt = values.shape
    sheared = values.new_zeros(hs, ws, hs + ht - 1, ws + wt - 1)
    sheared[_places(values)] = values
    return sheared


def _places(values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where `by_displacement` puts each of the values."""
    y, x, v, u = torch.meshgrid(*(torch.arange(n, device=values.device) for n in values.shape), indexing="ij")
    return y, x, v - y + len(values) - 1, u - x + values.shape[1] - 1


def interpolation(coarse: Grid, fine: Grid, device: torch.device) -> Tensor:
    """The weights (N, n) with which bilinear reading at the cells of one grid hears the n cells of another."""
    count = coarse.height * coarse.width
    maps = torch.eye(count, device=device).reshape(1, count, *coarse.shape)
    return read_cells(maps, coarse.to_cells(fine.centres(device))[None])[0].mT
