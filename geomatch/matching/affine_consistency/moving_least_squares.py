"""Moving least squares: for each cell, the affine map that fits the matches around it robustly.

After S. Schaefer, T. McPhail and J. Warren, *Image Deformation Using Moving Least Squares* (SIGGRAPH 2006). We depart
from it in three ways: matches are weighted by how probable they are, outliers lose weight by iterative re-weighting,
and a ridge regularises the map.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from geomatch.geometry.grid import Grid
from geomatch.matching.gaussian import gaussian_kernel, kernel_sums

ROUNDS: Final = 5
"""How often the maps are fitted; the first fit takes the weights as they are, the others re-weight."""

OUTLIER_DISTANCE: Final = 0.1
"""Distance from the map at which a match's weight falls to a quarter, as a share of the target's longer side."""

_RIDGE: Final = 0.01
"""Added to the variance of cells, in units of the Gaussian's variance; regularises near-collinear neighbourhoods."""


def moving_least_squares(
    grid: Grid, points: Tensor, weight: Tensor, deviation: float, outlier_distance: float = OUTLIER_DISTANCE
) -> Tensor:
    """Where the affine map that fits the matches around each cell sends it: (N, 2) float32, in units of ``points``.

    The map of cell i minimises sum_k g_ik w_k r_k |A_i p_k + t_i - q_k|^2 over the cells k at p_k, matched to the
    points q_k. g_ik is a Gaussian of the distance between the cells. r_k = (1 + |e_k|^2 / outlier_distance^2)^-2 is the
    weight of Geman and McClure, e_k being the distance of q_k from where k's own map of the previous round sends it.

    Args:
        points: (N, 2) target points of the cells in row-major order, as shares of the target's longer side.
        weight: (N,) w_k, not negative.
        deviation: standard deviation of the Gaussian, in cells.
        outlier_distance: from its map at which a match's weight falls to a quarter, in units of ``points``.
    """
    height, width = grid.shape
    cells = grid.cells(points.device).mT.reshape(2, height, width) / deviation
    targets = points.mT.reshape(2, height, width)
    (x, y), (u, v) = cells, targets
    products = torch.stack((torch.ones_like(x), x, y, x * x, x * y, y * y, u, v, x * u, y * u, x * v, y * v))
    kernels = {1 + axis: gaussian_kernel(length, deviation, points.device) for axis, length in enumerate(grid.shape)}
    prior = weights = weight.reshape(height, width)
    for _ in range(ROUNDS):
        predicted = _apply_affine_maps(cells, *_weighted_moments(products, weights, kernels))
        error = (predicted - targets).square().sum(dim=0)
        weights = prior / (1 + error / outlier_distance**2) ** 2
    return predicted.movedim(0, -1).reshape(-1, 2)


def _weighted_moments(
    products: Tensor, weights: Tensor, kernels: Mapping[int, Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Moments of the matches around each cell, under weights (h, w) times a Gaussian, of cells p and target points q.

    products: (12, h, w): 1, x, y, xx, xy, yy, u, v, xu, yu, xv, yv, with p = (x, y) and q = (u, v). kernels: of the
    Gaussian along the axes 1 and 2.
    Returns the means of p and q, (2, h, w) each; the variance of p, ridge included, (3, h, w): xx, xy, yy; and the
    covariance (2, 2, h, w) of u and v with x and y.
    """
    total, *sums = kernel_sums(products * weights, kernels)
    cell, squares, target, mixed = (torch.stack(sums) / total.clamp(min=1e-12)).split((2, 3, 2, 4))
    x, y = cell
    variance = torch.stack((squares[0] - x * x + _RIDGE, squares[1] - x * y, squares[2] - y * y + _RIDGE))
    return cell, target, variance, mixed.reshape(2, 2, *x.shape) - target[:, None] * cell


def _apply_affine_maps(cells: Tensor, cell: Tensor, target: Tensor, variance: Tensor, covariance: Tensor) -> Tensor:
    """Where each cell's least-squares map, given its moments, sends it (2, h, w): a 2 x 2 system by Cramer's rule."""
    xx, xy, yy = variance
    along_x, along_y = covariance.unbind(dim=1)
    x, y = cells - cell
    slope_x, slope_y = yy * along_x - xy * along_y, xx * along_y - xy * along_x
    change: Tensor = (slope_x * x + slope_y * y) / (xx * yy - xy * xy)
    return target + change
