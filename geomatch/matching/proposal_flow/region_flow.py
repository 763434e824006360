"""From matches of boxes to a flow for every point of a lattice, after Proposal Flow (Ham et al., PAMI 2018).

Every box that holds a point says where it lies, by the linear map of the box to its partner. In the paper
(`follow_the_best`) the point follows the best of them; where several points land on one, that of the best box stays and
the others become holes. Ours follows those that agree (`follow_the_agreeing`), since any one may err, and keeps what
lands on one place. Holes are filled, and the whole is smoothed, by the edge-aware filter.

Proposal Flow works on all pixels of both images; here it is lattices whose longer side has a few hundred points at
most, which are no finer than what features can tell, and a point lands on the nearest point of the other lattice.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.correspondence import RegionMatches
from geomatch.geometry.grid import Grid
from geomatch.matching.base import TargetPoints
from geomatch.matching.proposal_flow.edge_aware import smooth_to_edges
from geomatch.matching.similarity import argmax_of_rows, row_blocks

HEARD: Final = 32
"""Boxes that are asked where a point lies: the default's windows hold one 7 to 34 times, 21 on average."""


def lattice_over(image_size: tuple[int, int], longer_side: int) -> Grid:
    """Points spread over an image of (height, width), ``longer_side`` along that, but no more than there are pixels."""
    scale = min(1.0, longer_side / max(image_size))
    return Grid.over(image_size, *(max(1, round(length * scale)) for length in image_size))


def flow_from_regions(
    regions: RegionMatches,
    source: Grid,
    target: Grid,
    image: Tensor | None,
    smoothness: float,
    reach: float,
    max_bytes: int,
) -> TargetPoints:
    """Where the points of the lattice ``source`` lie in the target, over which lies the lattice ``target``.

    image: the source itself, (3, H, W) uint8, whose edges the flow may follow. smoothness: lambda of the filter. reach:
    distance in pixels of the target at which boxes agree on a point; 0 follows the best box alone. max_bytes: bound on
    the memory that agreeing takes. regions needs at least one match with a score. Every point gets a place; as holes
    are ordinary, and filled from what is known around them, none counts as not found.
    """
    matched = regions.found()
    centres = source.centres(matched.source.device)
    if reach > 0:
        positions, known = follow_the_agreeing(matched, source, reach, max_bytes)
    else:
        positions, known = follow_the_best(matched, source, target)
    moves = torch.where(known[:, None], positions - centres, 0.0)
    colours = None if image is None else _seen_at(image, source)
    smooth = smooth_to_edges(moves.mT.reshape(2, *source.shape), known.reshape(source.shape), colours, smoothness)
    return TargetPoints(source, centres + smooth.flatten(1).mT, regions=regions)


def follow_the_best(matched: RegionMatches, source: Grid, target: Grid) -> tuple[Tensor, Tensor]:
    """Where the best box that holds each of P points takes it, (P, 2), and whether one does and no better one takes
    another point there, (P,) bool."""
    holder, held = first_holder(matched.source, source)
    positions = send(source.centres(holder.device), matched.source[holder], matched.target[holder])
    return positions, held & survivors(target.nearest(positions), torch.where(held, holder, len(matched.score)))


def follow_the_agreeing(matched: RegionMatches, source: Grid, reach: float, max_bytes: int) -> tuple[Tensor, Tensor]:
    """Where the boxes that hold each of P points agree that it lies, (P, 2), and whether a box holds it, (P,) bool.

    Of the HEARD best boxes that hold a point, box r takes it to x_r and weighs w_r = score / area, as it may be off by
    a share of its side. The place x_b that most is said for is that of largest sum_r w_r g_rb, where
    g_rb = exp(-|x_r - x_b|^2 / 2 reach^2); the point goes to the mean of all x_r under the weights w_r g_rb, which is a
    step of mean shift from there (Comaniciu and Meer, PAMI 2002).
    """
    centres = source.centres(matched.source.device)
    weight = matched.score / (matched.source[:, 2:] - matched.source[:, :2]).prod(dim=1)
    positions, known = torch.empty_like(centres), torch.empty_like(centres[:, 0], dtype=torch.bool)
    for begin, end in row_blocks(len(centres), 4 * (len(weight) + HEARD**2), max_bytes):
        points = centres[begin:end]
        holders, held = holders_of(points, matched.source)
        places = send(points[:, None], matched.source[holders], matched.target[holders])
        said = weight[holders] * held
        said = said / said.amax(dim=1, keepdim=True).clamp(min=torch.finfo(said.dtype).tiny)
        near = torch.exp((places[:, :, None] - places[:, None]).square().sum(dim=3) / (-2 * reach**2))
        most = argmax_of_rows((near @ said[:, :, None])[:, :, 0].masked_fill(~held, -1.0))
        said = said * near.gather(1, most[:, None, None].expand(-1, 1, near.shape[2]))[:, 0]
        positions[begin:end] = (said[:, None] @ places)[:, 0] / said.sum(dim=1, keepdim=True).clamp(min=1e-30)
        known[begin:end] = held[:, 0]
    return positions, known


def holders_of(points: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The first HEARD of boxes (R, 4) that hold each of P points, in their order: (P, HEARD) int64, and which of these
    there are, (P, HEARD) bool."""
    inside = ((points[:, None] >= boxes[:, :2]) & (points[:, None] <= boxes[:, 2:])).all(dim=2)
    which = inside.cumsum(dim=1, dtype=torch.int32)
    point, box = (inside & (which <= HEARD)).nonzero(as_tuple=True)
    slot = which[point, box].long() - 1
    holders = torch.zeros(len(points), HEARD, dtype=torch.int64, device=points.device)
    holders[point, slot] = box
    return holders, torch.arange(HEARD, device=points.device) < which[:, -1:]


def lay_over(regions: RegionMatches, source: Grid, target: Grid) -> TargetPoints:
    """The whole source stretched over the whole target, for want of a match: nothing counts as found."""
    centres = source.centres(regions.source.device)
    positions = send(centres, _outline(source).to(centres), _outline(target).to(centres))
    return TargetPoints(source, positions, torch.zeros_like(positions[:, 0], dtype=torch.bool), regions)


def first_holder(boxes: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """The first of boxes (R, 4) that holds each of a lattice's P points, (P,) int64, and whether one does, (P,) bool.

    Where none does it is box 0.
    """
    centres = grid.centres(boxes.device).reshape(*grid.shape, 2)
    x, y = centres[0, :, 0, None], centres[:, 0, 1, None]
    within_columns, within_rows = (x >= boxes[:, 0]) & (x <= boxes[:, 2]), (y >= boxes[:, 1]) & (y <= boxes[:, 3])
    holds = (within_rows[:, None] & within_columns).flatten(0, 1)
    first = argmax_of_rows(holds)
    return first, holds.gather(1, first[:, None])[:, 0]


def send(points: Tensor, boxes: Tensor, partners: Tensor) -> Tensor:
    """Points (..., 2) moved by the linear map that takes each one's box (..., 4) to its partner (..., 4)."""
    share = (points - boxes[..., :2]) / (boxes[..., 2:] - boxes[..., :2])
    return partners[..., :2] + share * (partners[..., 2:] - partners[..., :2])


def survivors(landing: Tensor, rank: Tensor) -> Tensor:
    """Of the points that land on the same place, the one of lowest rank, or else lowest index: (P,) bool.

    landing: (P,) int64, the places. rank: (P,) int64.
    """
    order = rank * len(rank) + torch.arange(len(rank), device=rank.device)
    first = order.new_full((int(landing.max()) + 1,), torch.iinfo(torch.int64).max)
    first = first.scatter_reduce(0, landing, order, "amin")
    return first[landing] == order


def _outline(grid: Grid) -> Tensor:
    """The box (1, 4) that the cells of a grid fill."""
    ends = grid.to_pixels(torch.tensor([[-0.5, -0.5], [grid.width - 0.5, grid.height - 0.5]]))
    return ends.reshape(1, 4)


def _seen_at(image: Tensor, grid: Grid) -> Tensor:
    """An image (3, H, W) uint8 at the points of a grid that tiles it: (3, h, w) float32 in [0, 1]."""
    return F.interpolate(image[None], grid.shape, mode="bilinear", antialias=True)[0].float() / 255
