"""Matches of boxes as a flow for every point of a lattice, after Proposal Flow (Ham et al., PAMI 2018).

Every box that holds a point predicts where it lies, by the linear map of the box to its partner. In the paper
(`follow_best_box`) the point follows the best box; if several points are sent to one place, that of the best box stays
and the others become holes. Ours (`follow_agreeing_boxes`) follows the boxes that agree, since any single one may err,
and keeps all points. Holes are filled, and the flow is smoothed, by the edge-aware filter.

Proposal Flow works on all pixels of both images. Here both have lattices with at most a few hundred points along the
longer side, not finer than the features' resolution; places are points of the target's lattice.
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

MOST_BOXES: Final = 32
"""How many boxes predict a point at most: the default's windows hold one 7 to 34 times, 21 on average."""


def lattice_over(image_size: tuple[int, int], longer_side: int) -> Grid:
    """Points spread over an image of (height, width), ``longer_side`` of them along that, at most one a pixel."""
    scale = min(1.0, longer_side / max(image_size))
    return Grid.over(image_size, *(max(1, round(length * scale)) for length in image_size))


def flow_from_regions(
    regions: RegionMatches,
    source: Grid,
    target: Grid,
    image: Tensor,
    smoothness: float,
    reach: float,
    max_bytes: int,
) -> TargetPoints:
    """Where the points of the source's lattice lie in the target.

    Every point gets a position. Holes are common, and are filled from the points around them; they count as found.

    Args:
        regions: matched boxes, at least one with a score above 0.
        source, target: the lattices over the two images.
        image: (3, H, W) uint8, the source, at whose edges the flow may change.
        smoothness: lambda of the filter.
        reach: distance in pixels of the target within which boxes agree on a point; 0 follows the best box alone.
        max_bytes: bound on the memory of `follow_agreeing_boxes`.
    """
    matched = regions.found()
    centres = source.centres(matched.source.device)
    if reach > 0:
        positions, known = follow_agreeing_boxes(matched, source, reach, max_bytes)
    else:
        positions, known = follow_best_box(matched, source, target)
    moves = torch.where(known[:, None], positions - centres, 0.0)
    colours = _resample(image, source)
    smooth = smooth_to_edges(moves.mT.reshape(2, *source.shape), known.reshape(source.shape), colours, smoothness)
    return TargetPoints(source, centres + smooth.flatten(1).mT, regions=regions)


def follow_best_box(matched: RegionMatches, source: Grid, target: Grid) -> tuple[Tensor, Tensor]:
    """Where the best box around each of P points sends it, (P, 2), and which points are known, (P,) bool.

    A point is known if a box holds it and no better box sends another point to the same place of the target.
    """
    box, held = first_box_around(matched.source, source)
    positions = map_with_boxes(source.centres(box.device), matched.source[box], matched.target[box])
    return positions, held & is_best_at_place(target.nearest(positions), torch.where(held, box, len(matched.score)))


def follow_agreeing_boxes(matched: RegionMatches, source: Grid, reach: float, max_bytes: int) -> tuple[Tensor, Tensor]:
    """Where the boxes around each of P points agree that it lies, (P, 2), and whether a box holds it, (P,) bool.

    Of the MOST_BOXES best boxes around a point, box r sends it to x_r with weight w_r = score / area, because a box is
    off by a share of its side. Let x_b be the position with the largest density sum_r w_r g_rb, where
    g_rb = exp(-|x_r - x_b|^2 / 2 reach^2). The point goes to the mean of all x_r under the weights w_r g_rb: one step
    of mean shift from x_b (Comaniciu and Meer, PAMI 2002).
    """
    centres = source.centres(matched.source.device)
    weight = matched.score / (matched.source[:, 2:] - matched.source[:, :2]).prod(dim=1)
    positions, known = torch.empty_like(centres), torch.empty_like(centres[:, 0], dtype=torch.bool)
    for begin, end in row_blocks(len(centres), 4 * (len(weight) + MOST_BOXES**2), max_bytes, centres.device):
        points = centres[begin:end]
        boxes, held = boxes_around(points, matched.source)
        sent = map_with_boxes(points[:, None], matched.source[boxes], matched.target[boxes])
        weights = weight[boxes] * held
        weights = weights / weights.amax(dim=1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
        near = torch.exp((sent[:, :, None] - sent[:, None]).square().sum(dim=3) / (-2 * reach**2))
        densest = argmax_of_rows((near @ weights[:, :, None])[:, :, 0].masked_fill(~held, -1.0))
        weights = weights * near.gather(1, densest[:, None, None].expand(-1, 1, near.shape[2]))[:, 0]
        positions[begin:end] = (weights[:, None] @ sent)[:, 0] / weights.sum(dim=1, keepdim=True).clamp(min=1e-30)
        known[begin:end] = held[:, 0]
    return positions, known


def boxes_around(points: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The first MOST_BOXES of boxes (R, 4) that hold each of P points, in their order.

    Returns (P, MOST_BOXES) int64, and which of these entries are filled, (P, MOST_BOXES) bool.
    """
    inside = ((points[:, None] >= boxes[:, :2]) & (points[:, None] <= boxes[:, 2:])).all(dim=2)
    count = inside.cumsum(dim=1, dtype=torch.int32)
    point, box = (inside & (count <= MOST_BOXES)).nonzero(as_tuple=True)
    slot = count[point, box].long() - 1
    found = torch.zeros(len(points), MOST_BOXES, dtype=torch.int64, device=points.device)
    found[point, slot] = box
    return found, torch.arange(MOST_BOXES, device=points.device) < count[:, -1:]


def stretch_over(regions: RegionMatches, source: Grid, target: Grid) -> TargetPoints:
    """The whole source stretched over the whole target, if nothing was matched: no point counts as found."""
    centres = source.centres(regions.source.device)
    positions = map_with_boxes(centres, _bounding_box(source).to(centres), _bounding_box(target).to(centres))
    return TargetPoints(source, positions, torch.zeros_like(positions[:, 0], dtype=torch.bool), regions)


def first_box_around(boxes: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """The first of boxes (R, 4) that holds each of a lattice's P points, (P,) int64, and whether one does, (P,) bool.

    For points in no box it is box 0.
    """
    centres = grid.centres(boxes.device).reshape(*grid.shape, 2)
    x, y = centres[0, :, 0, None], centres[:, 0, 1, None]
    within_columns, within_rows = (x >= boxes[:, 0]) & (x <= boxes[:, 2]), (y >= boxes[:, 1]) & (y <= boxes[:, 3])
    holds = (within_rows[:, None] & within_columns).flatten(0, 1)
    first = argmax_of_rows(holds)
    return first, holds.gather(1, first[:, None])[:, 0]


def map_with_boxes(points: Tensor, boxes: Tensor, partners: Tensor) -> Tensor:
    """Points (..., 2) mapped linearly, each by the map of its box (..., 4) to that box's partner (..., 4)."""
    share = (points - boxes[..., :2]) / (boxes[..., 2:] - boxes[..., :2])
    return partners[..., :2] + share * (partners[..., 2:] - partners[..., :2])


def is_best_at_place(places: Tensor, rank: Tensor) -> Tensor:
    """Which points (P,) bool have the lowest rank, and of equal ranks the lowest index, among those at their place.

    places, rank: (P,) int64.
    """
    order = rank * len(rank) + torch.arange(len(rank), device=rank.device)
    first = order.new_full((int(places.max()) + 1,), torch.iinfo(torch.int64).max)
    first = first.scatter_reduce(0, places, order, "amin")
    return first[places] == order


def _bounding_box(grid: Grid) -> Tensor:
    """The box (1, 4) around all cells of a grid."""
    ends = grid.to_pixels(torch.tensor([[-0.5, -0.5], [grid.width - 0.5, grid.height - 0.5]]))
    return ends.reshape(1, 4)


def _resample(image: Tensor, grid: Grid) -> Tensor:
    """An image (3, H, W) uint8 resampled at the points of a grid that tiles it: (3, h, w) float32 in [0, 1]."""
    return F.interpolate(image[None], grid.shape, mode="bilinear", antialias=True)[0].float() / 255
