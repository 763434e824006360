"""Mutual nearest neighbours: cells that find each other are matched, the others are filled in from their neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.matching.base import REFINEMENT_LIMITS, Limits, MatchContext, Matcher, TargetPoints
from geomatch.matching.nearest import nearest_partners
from geomatch.matching.refinement.sub_cell import refined_target_points


@dataclass(frozen=True)
class MutualNeighbours(Matcher):
    """Nearest neighbours with a cycle check.

    slack: how far from its start, in cells along either axis, matching forward and back may end for a cell to count as
    matched; with 0 only cells that are each other's nearest neighbour do. window, temperature: of the refinement to
    sub-cell, as for nearest neighbours.
    """

    limits: ClassVar[Limits] = {"slack": (0, 1000), **REFINEMENT_LIMITS}

    slack: int = 1
    window: int = 1
    temperature: float = 0.05

    def __call__(self, context: MatchContext) -> tuple[TargetPoints, TargetPoints]:
        partners = nearest_partners(context)
        forward, backward = refined_target_points(context, partners, self.window, self.temperature)
        return (
            _fill(forward, is_mutual(partners.forward, partners.backward, forward.grid.width, self.slack)),
            _fill(backward, is_mutual(partners.backward, partners.forward, backward.grid.width, self.slack)),
        )


def is_mutual(forward: Tensor, backward: Tensor, width: int, slack: int) -> Tensor:
    """Which cells (N,) return to within ``slack`` cells of themselves, forward and back.

    forward: (N,) the partner of each cell. backward: (M,) the partner of each of the other image's cells. width: of the
    grid that the N cells lie on.
    """
    start = torch.arange(len(forward), device=forward.device)
    end = backward[forward]
    return ((start % width - end % width).abs() <= slack) & ((start // width - end // width).abs() <= slack)


def _fill(points: TargetPoints, found: Tensor) -> TargetPoints:
    """Give cells that were not found the mean displacement of the found cells in the 3 x 3 around them.

    Repeated with the filled cells counting as found until all are filled. If none was found, all stay as they are.
    """
    if not found.any():
        return TargetPoints(points.grid, points.positions, found)
    shape = points.grid.shape
    moves, known = points.displacements().mT.reshape(2, *shape), found.reshape(1, *shape).float()
    moves = moves * known
    while not known.all():
        weights = _sum_of_neighbours(known)
        reached = (weights > 0) & (known == 0)
        moves = torch.where(reached, _sum_of_neighbours(moves) / weights.clamp(min=1), moves)
        known = torch.where(reached, 1.0, known)
    positions = points.grid.centres(moves.device) + moves.flatten(1).mT
    return TargetPoints(points.grid, positions, found)


def _sum_of_neighbours(values: Tensor) -> Tensor:
    """(C, h, w): each cell's sum over the 3 x 3 cells around it, nothing beyond the border."""
    return F.avg_pool2d(values[None], 3, stride=1, padding=1, divisor_override=1)[0]
