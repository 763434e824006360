"""How the matches around a cell move: an affine map to each cell, which most of them agree on.

Moving least squares, after S. Schaefer, T. McPhail and J. Warren, *Image Deformation Using Moving Least Squares*
(SIGGRAPH 2006), with weights that tell good matches from bad ones, and made robust by weighting anew.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from geomatch.geometry.grid import Grid
from geomatch.matching.blur import blurred

ROUNDS: Final = 5
"""Of weighting anew; the first takes the weights as they are."""

OUTLYING: Final = 0.1
"""Distance from the map at which a match's weight falls to a quarter, as a share of the target's longer side."""

_RIDGE: Final = 0.01
"""Variance of cells, in that of the Gaussian, that is added, lest few matches in a row make the map anything at all."""


def moving_least_squares(grid: Grid, landing: Tensor, weight: Tensor, deviation: float) -> Tensor:
    """Where each cell is taken by the affine map that fits the matches around it: (N, 2) float32, in units of landing.

    The map of cell i minimises sum_k g_ik w_k r_k |A_i p_k + t_i - q_k|^2 over the cells k at p_k, which were matched
    with q_k; g_ik is a Gaussian of the distance between the cells; r_k = (1 + |e_k|^2 / OUTLYING^2)^-2, Geman and
    McClure's, e_k being how far q_k was from where k's own map of the round before took it.

    landing: (N, 2), in row-major order, as shares of the target's longer side. weight: (N,), not negative. deviation:
    of the Gaussian, in cells.
    """
    height, width = grid.shape
    places = grid.cells(landing.device).mT.reshape(2, height, width) / deviation
    x, y, u, v = *places, *landing.mT.reshape(2, height, width)
    moments = torch.stack((torch.ones_like(x), x, y, x * x, x * y, y * y, u, v, x * u, y * u, x * v, y * v))
    weights = weight.reshape(height, width)
    for _ in range(ROUNDS):
        total, *sums = blurred(moments * weights, {1: deviation, 2: deviation})
        mx, my, xx, xy, yy, mu, mv, xu, yu, xv, yv = torch.stack(sums) / total.clamp(min=1e-12)
        xx, xy, yy = xx - mx * mx + _RIDGE, xy - mx * my, yy - my * my + _RIDGE
        determinant = xx * yy - xy * xy
        taken = []
        for mean, along_x, along_y in ((mu, xu - mx * mu, yu - my * mu), (mv, xv - mx * mv, yv - my * mv)):
            a, b = yy * along_x - xy * along_y, xx * along_y - xy * along_x
            taken.append(mean + (a * (x - mx) + b * (y - my)) / determinant)
        error = (taken[0] - u) ** 2 + (taken[1] - v) ** 2
        weights = weight.reshape(height, width) / (1 + error / OUTLYING**2) ** 2
    return torch.stack(taken, dim=-1).reshape(-1, 2)
