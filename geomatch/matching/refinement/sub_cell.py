"""Matched cells refined to sub-cell accuracy by a soft-argmax over the cells around them."""

from __future__ import annotations

import torch
from torch import Tensor

from geomatch.matching.base import MatchContext, TargetPoints
from geomatch.matching.similarity import Partners, row_blocks


def refined_target_points(
    context: MatchContext, partners: Partners, window: int, temperature: float
) -> tuple[TargetPoints, TargetPoints]:
    """Matched cells as target points, source to target and back; see `refine_to_subcell` for the parameters."""
    forward, backward = (
        each.target.grid.to_pixels(refine_to_subcell(each, cells, window, temperature))
        for each, cells in ((context, partners.forward), (context.reversed, partners.backward))
    )
    return TargetPoints(context.source.grid, forward), TargetPoints(context.target.grid, backward)


def refine_to_subcell(context: MatchContext, partners: Tensor, window: int, temperature: float) -> Tensor:
    """Move each partner by the difference of two soft-argmaxes over the cells around it.

    The first weighs these cells by their similarity to the source cell, the second by their similarity to the partner
    itself. So a source cell that equals its partner stays exactly there, also where the window is cut off by a border.

    Args:
        partners: (N,) int64, the target cell of each source cell.
        window: radius of the window around a partner, in cells. Cells off the grid or outside a mask have no weight.
        temperature: of the softmax, in units of cosine similarity.

    Returns:
        Fractional target cells (N, 2), x then y.
    """
    grid = context.target.grid
    a, b = (features.descriptors.flatten(1).mT.contiguous() for features in (context.source, context.target))
    position = grid.cells(a.device)
    refined = torch.empty(len(partners), 2, device=a.device)
    for begin, end in row_blocks(len(partners), (2 * window + 1) ** 2 * a.shape[1], context.max_bytes, a.device):
        partner = partners[begin:end]
        near, counts = grid.window(partner, window)
        if context.target.inside is not None:
            counts &= context.target.inside[near] | (near == partner[:, None])
        windows = b.index_select(0, near.flatten()).reshape(*near.shape, -1)
        scores = torch.stack((a[begin:end], b[partner]), dim=1) @ windows.mT
        weights = torch.softmax(scores.masked_fill(~counts[:, None], -torch.inf) / temperature, dim=2)
        by_source, by_partner = (weights @ position[near]).unbind(dim=1)
        refined[begin:end] = position[partner] + (by_source - by_partner)
    return refined
