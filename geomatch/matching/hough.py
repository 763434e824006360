"""Hough voting on feature grids: matches around a cell vote for a displacement before its match is chosen.

The dense relative of Proposal Flow's probabilistic Hough matching (Ham et al., CVPR 2016, section 3), as in Hyperpixel
Flow (Min et al., ICCV 2019, section 3.3). There all pairs of cells of two images vote for one displacement. We depart
from it in three ways: votes are counted separately around every source cell, so scale and pose may change over the
image; each pair votes with the softmax of its similarity in both directions; and neighbours vote also as they would if
the target were mirrored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from geomatch.errors import OutOfMemoryError
from geomatch.geometry.grid import Grid, read_cells
from geomatch.matching.base import REFINEMENT_LIMITS, Limits, MatchContext, Matcher, TargetPoints
from geomatch.matching.gaussian import gaussian_sums
from geomatch.matching.refinement.sub_cell import refined_target_points
from geomatch.matching.similarity import best_partners


@dataclass(frozen=True)
class HoughVoting(Matcher):
    """Match by z_ij = <a_i, b_j> + weight log H_ij, both ways.

    H_ij = sum_kl p_kl g_ik g_ijkl sums the preferences p_kl of all pairs of cells k, l. g_ik is a Gaussian of the
    distance from i to k; g_ijkl is a Gaussian of the difference between the displacements from i to j and from k to l,
    and counts these as they are and mirrored left to right. p_kl is the softmax of similarity over l times that over k.
    Votes are counted on grids of at most ``cells`` along the longer side, and their logarithm is read bilinearly.

    weight: of the votes against the similarity. preference: temperature of the two softmaxes.
    reach, blur: standard deviations of the two Gaussians, as shares of ``cells``.
    window, temperature: of the refinement to sub-cell, as for nearest neighbours.
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
        source, target = context.source, context.target
        coarse = MatchContext(
            source.pooled(self._factor(source.grid)), target.pooled(self._factor(target.grid)), context.max_bytes
        )
        a, b = context.similarity.a, context.similarity.b
        rows = interpolation(coarse.source.grid, source.grid, a.device)
        columns = interpolation(coarse.target.grid, target.grid, b.device)
        votes = self.weight * self._log_votes(coarse) @ columns.mT

        def score_rows(start: int, stop: int) -> Tensor:
            return torch.addmm(rows[start:stop] @ votes, a[:, start:stop].mT, b)

        partners = best_partners(score_rows, (a.shape[1], b.shape[1]), context.max_bytes, a.device)
        return refined_target_points(context, partners, self.window, self.temperature)

    def _factor(self, grid: Grid) -> int:
        return math.ceil(max(grid.shape) / self.cells)

    def _log_votes(self, context: MatchContext) -> Tensor:
        """log H (N, M) of the cells of two coarse grids. Raises OutOfMemoryError."""
        (hs, ws), (ht, wt) = context.source.grid.shape, context.target.grid.shape
        if 12 * hs * ws * (hs + ht) * (ws + wt) > context.max_bytes:
            raise OutOfMemoryError(
                f"voting over {hs}x{ws} cells does not fit into {context.max_bytes} bytes: "
                "raise --max-memory or choose a faster --preset"
            )
        similarity = context.similarity.rows(0, hs * ws) / self.preference
        preferences = (torch.softmax(similarity, dim=1) * torch.softmax(similarity, dim=0)).reshape(hs, ws, ht, wt)
        reach, blur = self.reach * self.cells, self.blur * self.cells
        votes = neighbours_votes(preferences, reach, blur)
        votes = votes + neighbours_votes(preferences.flip(3), reach, blur).flip(3)
        return votes.clamp_(min=torch.finfo(votes.dtype).tiny).log_().reshape(hs * ws, ht * wt)


def neighbours_votes(preferences: Tensor, reach: float, blur: float) -> Tensor:
    """Votes H (hs, ws, ht, wt) for each pair of cells by the pairs around it, of preferences p of the same shape.

    H_ij = sum_kl p_kl exp(-|i - k|^2 / 2 reach^2) exp(-|(j - i) - (l - k)|^2 / 2 blur^2), everything in cells.
    """
    votes = by_displacement(preferences)
    return gaussian_sums(votes, {0: reach, 1: reach, 2: blur, 3: blur})[_indices(preferences)]


def by_displacement(values: Tensor) -> Tensor:
    """Index values (hs, ws, ht, wt) of pairs of cells by source cell and displacement.

    Returns (hs, ws, hs + ht - 1, ws + wt - 1): the value of the pair (y, x), (v, u) stands at
    (y, x, v - y + hs - 1, u - x + ws - 1); entries without a pair are 0.
    """
    hs, ws, ht, wt = values.shape
    sheared = values.new_zeros(hs, ws, hs + ht - 1, ws + wt - 1)
    sheared[_indices(values)] = values
    return sheared


def _indices(values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where `by_displacement` stores each value."""
    y, x, v, u = torch.meshgrid(*(torch.arange(n, device=values.device) for n in values.shape), indexing="ij")
    return y, x, v - y + len(values) - 1, u - x + values.shape[1] - 1


def interpolation(coarse: Grid, fine: Grid, device: torch.device) -> Tensor:
    """The weights (N, n) of a coarse grid's n cells in bilinear interpolation at the N cells of a fine one."""
    count = coarse.height * coarse.width
    maps = torch.eye(count, device=device).reshape(1, count, *coarse.shape)
    return read_cells(maps, coarse.to_cells(fine.centres(device))[None])[0].mT
