"""Target points made finer than a cell: they are searched again on fine maps, near a matcher's answer (ours).

An early stage of a trunk recognises a place of the same object to a few pixels, but not a part of another object.
Therefore points move only if both images show the same object. The search is that of optical flow: coarse to fine, in a
window around where the flow found so far leads, as in PWC-Net (Sun et al., CVPR 2018).
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.correspondence import FineMap
from geomatch.geometry.grid import Grid
from geomatch.geometry.mask import cells_inside
from geomatch.matching.affine_consistency.moving_least_squares import moving_least_squares
from geomatch.matching.base import MatchContext, TargetPoints
from geomatch.matching.similarity import argmax_of_rows, row_blocks

SAME_OBJECT: Final = 0.008
"""Least mean weight of the cells of two images of the same object. All validation pairs of SPair-71k have less in the
last round, and 95 % of known warps have more (docs/experiments/matchers.md)."""

RADIUS: Final = 2
"""Of the searched window, in cells of the map that is searched."""

OUTLIER_DISTANCE: Final = 0.03
"""Of moving least squares, as a share of the target's longer side."""

_SAME_PATCH, _SAME_PATCH_WIDTH = 0.65, 0.03  # similarity at which patches weigh half, and how fast that changes
_LEAST_WEIGHT = 1e-4  # of a cell whose patch is not found
_PATCH = 3  # side of the patches that are compared, in cells
_ROUNDS = (2, 2, 1)  # cells of the maps that are averaged along either axis
_DEVIATION = 3.0  # of the Gaussian of moving least squares, in cells


def search_fine_maps(context: MatchContext, points: TargetPoints) -> TargetPoints | None:
    """A matcher's target points, searched again on the fine maps: where the cells of the source's lie in the target.

    In each of three rounds, cell i of the source's map is compared with the target's map around where i leads: c_d is
    the similarity of their 3 x 3 patches at offset d, in cells of the target. The best offset is where a parabola
    through c at the best d and its neighbours is highest, along either axis; less the same for the source's map around
    i itself, so that an image matches itself in place. Its weight is

        w_i = sigmoid((max_d c_d - .65) / .03) (max_d c_d - max_e c_e)

    over offsets e two cells or more from the best one, or with such c of the source's map itself if that gives less: it
    is small without texture, along an edge and for patches of other objects (after Moravec's interest operator, 1980).
    `moving_least_squares` of the displacements found, under these weights, is where the next round begins.

    Returns None if the points are to stay: an image has no fine map, or the weights say that the images show different
    objects (SAME_OBJECT).

    Raises:
        OutOfMemoryError: if ``context.max_bytes`` cannot hold the window of one cell.
    """
    if context.source.fine is None or context.target.fine is None:
        return None
    source, target = context.source.fine, context.target.fine.in_basis_of(context.source.fine)
    source_side, target_side = context.source.longer_side, context.target.longer_side
    for factor in _ROUNDS:
        a, b = source.pooled(factor), target.pooled(factor)
        centres = a.grid.centres(a.values.device)
        before = points.at(centres)
        offsets, weight = _best_offsets(a, b, before, context.max_bytes)
        mask = context.source.mask
        counted = torch.ones_like(weight) if mask is None else cells_inside(mask, a.grid).to(weight)
        if (weight * counted).sum() < SAME_OBJECT * counted.sum():
            return None
        found = before + torch.stack([way * pitch for way, pitch in zip(offsets.mT, b.grid.pitch, strict=True)], dim=1)
        # Displacements, because the ridge of moving least squares pulls towards what is the same everywhere.
        shares = found / target_side - centres / source_side
        fitted = moving_least_squares(a.grid, shares, weight * counted + _LEAST_WEIGHT, _DEVIATION, OUTLIER_DISTANCE)
        points = TargetPoints(a.grid, (fitted + centres / source_side) * target_side)
    return points


def _best_offsets(source: FineMap, target: FineMap, points: Tensor, max_bytes: int) -> tuple[Tensor, Tensor]:
    """The best offset of each source cell from its point (N, 2), in cells of the target, and its weight (N,)."""
    window = 2 * RADIUS + 1
    similarity = torch.stack((windows_at(source, target, points, max_bytes), windows_in_place(source)))
    maps = similarity.mT.reshape(2, window**2, *source.grid.shape)
    patches = F.avg_pool2d(maps, _PATCH, 1, _PATCH // 2, count_include_pad=False).flatten(2).mT
    offsets = Grid(window, window, (0.0, 0.0), (1.0, 1.0)).cells(points.device) - RADIUS
    place = argmax_of_rows(patches.flatten(0, 1)).reshape(2, -1)
    highest = patches.gather(2, place[:, :, None])[:, :, 0]
    near = (offsets - offsets[place][:, :, None]).abs().amax(dim=3) < 2
    distinctness = (highest - patches.masked_fill(near, -torch.inf).amax(dim=2)).amin(dim=0)
    weight = torch.sigmoid((highest[0] - _SAME_PATCH) / _SAME_PATCH_WIDTH) * distinctness
    along_x = _peak(patches, place, place % window, 1)
    along_y = _peak(patches, place, place // window, window)
    best, in_place = offsets[place] + torch.stack((along_x, along_y), dim=2)
    return best - in_place, weight * _is_on(target.grid, points)


def _peak(patches: Tensor, place: Tensor, coordinate: Tensor, step: int) -> Tensor:
    """How far from its maximum a window's parabola along an axis is highest, in [-1/2, 1/2]; 0 at the window's edge.

    patches: (2, N, K). place: (2, N), of the maxima. coordinate: theirs along the axis; step: to the next place on it.
    """
    inside = (coordinate > 0) & (coordinate < 2 * RADIUS)
    places = torch.stack((place - step * inside, place, place + step * inside), dim=2)
    before, at, after = patches.gather(2, places).unbind(dim=2)
    return ((after - before) / (2 * (2 * at - before - after)).clamp(min=1e-6)).clamp(-0.5, 0.5)


def _is_on(grid: Grid, points: Tensor) -> Tensor:
    """Whether points (N, 2) in pixels lie on a grid's cells."""
    x, y = grid.to_cells(points).mT
    inside: Tensor = (x > -0.5) & (x < grid.width - 0.5) & (y > -0.5) & (y < grid.height - 0.5)
    return inside


def windows_at(source: FineMap, target: FineMap, points: Tensor, max_bytes: int) -> Tensor:
    """Similarity (N, K) of each source cell to the K = (2 RADIUS + 1)^2 places around its point (N, 2) in the target.

    These lie whole cells of the target from the point, in row-major order; the target is read bilinearly there, and
    beyond its border the nearest cell holds. In pixels of the target; both maps in one basis.
    """
    grid = target.grid
    a, b = (each.values.flatten(1).mT.contiguous() for each in (source, target))
    x, y = grid.to_cells(points).mT
    corner = torch.stack((x.clamp(0, grid.width - 1), y.clamp(0, grid.height - 1)), dim=1)
    x, y = (corner - corner.floor()).mT[:, :, None, None]
    reach = torch.arange(-RADIUS, RADIUS + 2, device=a.device)
    left, top = corner.long().mT[:, :, None] + reach
    cells = top.clamp(0, grid.height - 1)[:, :, None] * grid.width + left.clamp(0, grid.width - 1)[:, None, :]
    around = torch.empty(cells.shape, device=a.device)
    for begin, end in row_blocks(len(a), len(reach) ** 2 * a.shape[1], max_bytes, a.device):
        near = b.index_select(0, cells[begin:end].flatten()).reshape(end - begin, len(reach) ** 2, -1)
        around[begin:end] = (near @ a[begin:end, :, None]).reshape(-1, len(reach), len(reach))
    # A product with bilinear weights is the bilinear interpolation of products.
    rows = torch.lerp(around[:, :-1], around[:, 1:], y)
    return torch.lerp(rows[:, :, :-1], rows[:, :, 1:], x).flatten(1)


def windows_in_place(source: FineMap) -> Tensor:
    """`windows_at` of a map and itself, with each cell's point at its own centre; (N, K)."""
    (height, width), values = source.grid.shape, source.values
    padded = F.pad(values[None], (RADIUS,) * 4, mode="replicate")[0]
    steps = range(2 * RADIUS + 1)
    moved = (padded[:, y : y + height, x : x + width] for y in steps for x in steps)
    return torch.stack([(values * each).sum(dim=0).flatten() for each in moved], dim=1)
