"""A smooth map of the plane through corresponding points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.special import xlogy

Points = NDArray[np.float64]

_SINGULAR: Final = 1e-10
"""Singular values of the spline's equations, relative to the largest, that are treated as zero."""


@dataclass(frozen=True)
class ThinPlateSpline:
    """A thin-plate spline, the smoothest map of the plane through point pairs (Bookstein, PAMI 1989).

    ``f(p) = A (1, q) + sum_k w_k U(|q - q_k|)`` with U(r) = r^2 log r^2, sum w_k = 0 and sum w_k q_k = 0, where
    q = (p - centre) / scale. The scale does not change f; it keeps the equations well conditioned.

    centre: (2,) pixels. scale: pixels. knots: (K, 2). weights: (K, 2). affine: (3, 2), rows for 1, x and y.
    """

    centre: NDArray[np.float64]
    scale: float
    knots: NDArray[np.float64]
    weights: NDArray[np.float64]
    affine: NDArray[np.float64]

    @classmethod
    def fit(cls, source: Points, target: Points) -> ThinPlateSpline:
        """The spline that maps ``source`` (K, 2) to ``target`` (K, 2), in pixels of the two images.

        Fewer than three points, or points on a line, do not determine the affine part. It is then the one nearest to
        the least-squares similarity of the pairs: one point gives a translation, two give a similarity. Points that
        coincide in ``source`` are mapped to the mean of their targets. Raises ValueError without points.
        """
        if len(source) == 0:
            raise ValueError("a thin-plate spline needs at least one pair of points")
        centre = source.mean(axis=0)
        scale = float(np.abs(source - centre).max()) or 1.0
        knots = (source - centre) / scale
        bending, linear = np.split(_spline_basis(knots, knots), [len(knots)], axis=1)
        system = np.block([[bending, linear], [linear.T, np.zeros((3, 3))]])
        start = np.vstack((np.zeros_like(knots), _least_squares_similarity(knots, target)))
        values = np.vstack((target, np.zeros((3, 2))))
        solution = start + np.linalg.lstsq(system, values - system @ start, rcond=_SINGULAR)[0]
        return cls(centre, scale, knots, solution[:-3], solution[-3:])

    def __call__(self, points: Points) -> Points:
        """Map points (N, 2) of the source image to (N, 2) float64 in the target image."""
        basis = _spline_basis((points - self.centre) / self.scale, self.knots)
        return np.asarray(basis @ np.vstack((self.weights, self.affine)), np.float64)


def _spline_basis(points: Points, knots: Points) -> NDArray[np.float64]:
    """The basis of a spline at points (N, 2): U of the distances to knots (K, 2), then 1, x, y: (N, K + 3)."""
    squared = cdist(points, knots, "sqeuclidean")
    return np.hstack((xlogy(squared, squared), np.ones((len(points), 1)), points))


def _least_squares_similarity(centred: Points, target: Points) -> NDArray[np.float64]:
    """The similarity that maps ``centred`` (K, 2) nearest to ``target``, as (3, 2) with rows for 1, x and y.

    In complex numbers: z' = mean z' + (conj z . z') / |z|^2 z. If all points coincide, it is a translation.
    """
    z, mapped = centred @ (1, 1j), target @ (1, 1j)
    length = float(np.vdot(z, z).real)
    turn = complex(np.vdot(z, mapped)) / length if length > 0 else 1 + 0j
    return np.vstack((target.mean(axis=0), (turn.real, turn.imag), (-turn.imag, turn.real)))
