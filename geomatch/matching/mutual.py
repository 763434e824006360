"""Mutual nearest neighbours: only cells that find each other are matched, the others go where those around them go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.matching.base import REFINEMENT_LIMITS, Limits, Matcher, TargetPoints
from geomatch.matching.context import MatchContext
from geomatch.matching.nearest import nearest_partners
from geomatch.matching.similarity import place


@dataclass(frozen=True)
class MutualNeighbours(Matcher):
    """Nearest neighbours with a cycle check.

    slack: how many cells, along either axis, there and back may end from where it started, for a cell to count as
    matched; 0 keeps those that are each other's best alone. window, temperature: of the refinement below a cell, as
    for nearest neighbours.
    """

    limits: ClassVar[Limits] = {"slack": (0, 1000), **REFINEMENT_LIMITS}

    slack: int = 1
    window: int = 1
    temperature: float = 0.05

    def __call__(self, context: MatchContext) -> tuple[TargetPoints, TargetPoints]:
        source, target, max_bytes = context.source, context.target, context.max_bytes
        partners = nearest_partners(source, target, max_bytes)
        there, back = place(source, target, partners, self.window, self.temperature, max_bytes)
        return (
            _filled(there, leads_back(partners.forward, partners.backward, source.grid.width, self.slack)),
            _filled(back, leads_back(partners.backward, partners.forward, target.grid.width, self.slack)),
        )


def leads_back(there: Tensor, back: Tensor, width: int, slack: int) -> Tensor:
    """Which cells (N,) are led back to within ``slack`` cells of themselves.

    there: (N,) the partner of each cell. back: (M,) the partner of each of the other image's cells. width: of the grid
    that the N cells are on.
    """
    start = torch.arange(len(there), device=there.device)
    end = back[there]
    return ((start % width - end % width).abs() <= slack) & ((start // width - end // width).abs() <= slack)


def _filled(placement: TargetPoints, found: Tensor) -> TargetPoints:
    """Cells that were not found displaced as the found ones around them: the mean over 3 x 3 cells, ring after ring.

    If none was found, all stay as they are.
    """
    if not found.any():
        return TargetPoints(placement.grid, placement.positions, found)
    shape = placement.grid.shape
    moves, known = placement.displacements().mT.reshape(2, *shape), found.reshape(1, *shape).float()
    moves = moves * known
    while not known.all():
        weights = _sum_of_neighbours(known)
        reached = (weights > 0) & (known == 0)
        moves = torch.where(reached, _sum_of_neighbours(moves) / weights.clamp(min=1), moves)
        known = torch.where(reached, 1.0, known)
    positions = placement.grid.centres(moves.device) + moves.flatten(1).mT
    return TargetPoints(placement.grid, positions, found)


def _sum_of_neighbours(values: Tensor) -> Tensor:
    """(C, h, w): each cell's sum over the 3 x 3 cells around it, nothing beyond the border."""
    return F.avg_pool2d(values[None], 3, stride=1, padding=1, divisor_override=1)[0]
