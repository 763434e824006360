"""From matches of boxes to a flow for every point of a lattice, as Proposal Flow makes it (Ham et al., PAMI 2018).

Each point follows the best box that holds it, by the linear map of that box to its partner. Where several points land
on one, that of the best box stays and the others become holes. Holes are filled, and the whole is smoothed, by the
edge-aware filter.

Proposal Flow works on all pixels of both images; here it is lattices whose longer side has a few hundred points at
most, which are no finer than what features can tell, and a point lands on the nearest point of the other lattice.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.correspondence import RegionMatches
from geomatch.geometry import Grid
from geomatch.matching.base import Placement
from geomatch.matching.edge_aware import smooth_to_edges
from geomatch.matching.search import argmax_of_rows


def lattice_over(image_size: tuple[int, int], longer_side: int) -> Grid:
    """Points spread over an image of (height, width), ``longer_side`` along that, but no more than there are pixels."""
    scale = min(1.0, longer_side / max(image_size))
    return Grid.over(image_size, *(max(1, round(length * scale)) for length in image_size))


def flow_from_regions(
    regions: RegionMatches, source: Grid, target: Grid, image: Tensor | None, smoothness: float
) -> Placement:
    """Where the points of the lattice ``source`` lie in the target, over which lies the lattice ``target``.

    image: the source itself, (3, H, W) uint8, whose edges the flow may follow. smoothness: lambda of the filter.
    regions needs at least one match with a score. Every point gets a place; as holes are ordinary, and filled from what
    is known around them, none counts as not found.
    """
    matched = regions.found()
    holder, held = first_holder(matched.source, source)
    centres = source.centres(holder.device)
    positions = send(centres, matched.source[holder], matched.target[holder])
    known = held & survivors(target.nearest(positions), torch.where(held, holder, len(matched.score)))
    moves = torch.where(known[:, None], positions - centres, 0.0)
    colours = None if image is None else _seen_at(image, source)
    smooth = smooth_to_edges(moves.mT.reshape(2, *source.shape), known.reshape(source.shape), colours, smoothness)
    return Placement(source, centres + smooth.flatten(1).mT, regions=regions)


def lay_over(regions: RegionMatches, source: Grid, target: Grid) -> Placement:
    """The whole source stretched over the whole target, for want of a match: nothing counts as found."""
    centres = source.centres(regions.source.device)
    positions = send(centres, _outline(source).to(centres), _outline(target).to(centres))
    return Placement(source, positions, torch.zeros_like(positions[:, 0], dtype=torch.bool), regions)


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
    """Points (P, 2) moved by the linear map that takes each one's box (P, 4) to its partner (P, 4)."""
    share = (points - boxes[:, :2]) / (boxes[:, 2:] - boxes[:, :2])
    return partners[:, :2] + share * (partners[:, 2:] - partners[:, :2])


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
