"""Edge-aware smoothing of a flow, which also fills its holes.

The filter with joint static and dynamic guidance of Ham, Cho and Ponce (CVPR 2015), with which Proposal Flow cleans
its dense flow: each channel u of the flow f is the solution of (C + lambda L) u = C f, with C = diag(1 where f is
known, 0 in holes) and L the Laplacian of the lattice's 4-neighbour graph, whose edges weigh
exp(-30 d_Lab) exp(-15 d_u). A distance d is the squared difference of an edge's two ends, in the image's Lab colours or
in u, scaled to [0, 1] over all edges. u is the previous solution, at first a constant; there are two rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Values = NDArray[np.float64]

_STATIC: Final = 30.0
_DYNAMIC: Final = 15.0
_STEPS: Final = 2

_LEAST_WEIGHT: Final = 1e-5
"""Of an edge, so that no part of a lattice is cut off from the known points."""


@dataclass(frozen=True)
class Edges:
    """A value for each edge of a lattice of h x w points: across (h, w - 1) and down (h - 1, w)."""

    across: Values
    down: Values

    @classmethod
    def weights(cls, values: Values, bandwidth: float) -> Edges:
        """exp(-bandwidth d) for the distances d between neighbours in values (C, h, w)."""
        across = (np.diff(values, axis=2) ** 2).sum(axis=0)
        down = (np.diff(values, axis=1) ** 2).sum(axis=0)
        every = np.concatenate((across.ravel(), down.ravel()))
        least, span = every.min(), np.ptp(every) or 1.0
        return cls(*(np.exp(-bandwidth * (each - least) / span) + _LEAST_WEIGHT for each in (across, down)))

    def __mul__(self, other: Edges) -> Edges:
        return Edges(self.across * other.across, self.down * other.down)

    def transposed(self) -> Edges:
        return Edges(self.down.T, self.across.T)


def smooth_to_edges(flow: Tensor, known: Tensor, image: Tensor, smoothness: float) -> Tensor:
    """The flow (2, h, w) float32, smooth except at edges, and without holes.

    known: (h, w) bool, with at least one point. image: (3, h, w) float, sRGB in [0, 1], resampled at the same lattice.
    smoothness: lambda.
    """
    given, certain = flow.double().cpu().numpy(), known.double().cpu().numpy()
    if known.numel() == 1:
        return flow
    constant = np.ones((1, *known.shape))
    static = Edges.weights(to_lab(image.double().cpu().numpy()), _STATIC)
    smooth = _solve(static * Edges.weights(constant, _DYNAMIC), certain, given, smoothness)
    for _ in range(_STEPS - 1):
        smooth = np.concatenate(
            [
                _solve(static * Edges.weights(before[None], _DYNAMIC), certain, channel[None], smoothness)
                for before, channel in zip(smooth, given, strict=True)
            ]
        )
    return torch.from_numpy(smooth).to(flow)


def _solve(weights: Edges, known: Values, values: Values, smoothness: float) -> Values:
    """(C + lambda L) u = C f for all channels f of values (C, h, w) at once, by a banded Cholesky factorisation."""
    from scipy.linalg import solveh_banded  # takes longer to load than most matchers need for a pair

    height, width = known.shape
    if height > width:  # the band is as wide as the lattice is high
        turned = _solve(weights.transposed(), known.T, values.transpose(0, 2, 1), smoothness)
        return turned.transpose(0, 2, 1)
    degree = np.zeros_like(known)
    degree[:, :-1] += weights.across
    degree[:, 1:] += weights.across
    degree[:-1] += weights.down
    degree[1:] += weights.down
    # Row k of the band is the k-th subdiagonal, with points numbered column by column.
    band = np.zeros((height + 1, height * width))
    band[0] = (known + smoothness * degree).T.ravel()
    band[1].reshape(width, height)[:, :-1] -= smoothness * weights.down.T
    band[height].reshape(width, height)[:-1] -= smoothness * weights.across.T
    right = (known * values).transpose(2, 1, 0).reshape(height * width, -1)
    solved = solveh_banded(band, right, lower=True, overwrite_ab=True, overwrite_b=True, check_finite=False)
    return np.asarray(solved.reshape(width, height, -1).transpose(2, 1, 0), np.float64)


def to_lab(image: Values) -> Values:
    """CIE L*a*b* (3, h, w) of sRGB (3, h, w) in [0, 1], white point D65 (IEC 61966-2-1, CIE 15)."""
    linear = np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.einsum("ij,jhw->ihw", to_xyz / to_xyz.sum(axis=1, keepdims=True), linear)
    f_x, f_y, f_z = (np.where(v > (6 / 29) ** 3, np.cbrt(v), v * (29 / 6) ** 2 / 3 + 4 / 29) for v in (x, y, z))
    return np.stack((116 * f_y - 16, 500 * (f_x - f_y), 200 * (f_y - f_z)))
