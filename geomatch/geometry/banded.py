"""Quadratic energies on a lattice of points, minimised by a banded Cholesky factorisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from geomatch.geometry.lapack import solve_banded

Values = NDArray[np.float64]
Stencil: TypeAlias = Sequence[tuple[int, int, float]]
"""A difference of points: row and column of each, from the first one's, and its factor."""

ACROSS: Final[Stencil] = ((0, 0, -1.0), (0, 1, 1.0))
DOWN: Final[Stencil] = ((0, 0, -1.0), (1, 0, 1.0))
BEND_ACROSS: Final[Stencil] = ((0, 0, 1.0), (0, 1, -2.0), (0, 2, 1.0))
BEND_DOWN: Final[Stencil] = ((0, 0, 1.0), (1, 0, -2.0), (2, 0, 1.0))
TWIST: Final[Stencil] = ((0, 0, 1.0), (0, 1, -1.0), (1, 0, -1.0), (1, 1, 1.0))
"""First differences, and the second ones that a thin plate resists."""

_REACH = 2
"""Points that a difference spans along an axis, at most, beyond its first one."""


@dataclass(frozen=True)
class Lattice:
    """Points in ``height`` rows and ``width`` columns, numbered along the shorter axis, which keeps the band narrow."""

    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.width

    @cached_property
    def numbers(self) -> NDArray[np.intp]:
        """(height, width), the number of each point."""
        numbers: NDArray[np.intp] = self.maps(np.arange(float(self.height * self.width))[:, None])[0].astype(np.intp)
        return numbers

    @property
    def _by_rows(self) -> bool:
        return self.width <= self.height

    def flat(self, maps: Values) -> Values:
        """Maps (C, height, width) as rows (N, C) in the order of the numbers."""
        along = maps if self._by_rows else maps.transpose(0, 2, 1)
        return np.ascontiguousarray(along.reshape(len(maps), -1).T)

    def maps(self, rows: Values) -> Values:
        """The inverse of `flat`."""
        if self._by_rows:
            return rows.T.reshape(-1, self.height, self.width)
        return rows.T.reshape(-1, self.width, self.height).transpose(0, 2, 1)

    def energy(self, terms: Sequence[tuple[Stencil, Values]]) -> Values:
        """The matrix E of sum_terms sum_i w_i (difference of u at i)^2 = u' E u, as its lower band.

        terms: stencils, each with the weights (h, w) of its differences at all first points at which it fits.

        Returns:
            (band + 1, N): row k holds E[j + k, j] in column j, as `solve_banded` reads it.
        """
        down, across = (int(self.numbers[step]) for step in ((1, 0), (0, 1)))
        lower = np.zeros((_REACH * max(down, across) + 1, self.numbers.size), order="F")
        for stencil, weights in terms:
            first = self.numbers[: weights.shape[0], : weights.shape[1]]
            for (row, column, one), (other_row, other_column, other) in product(stencil, stencil):
                start = row * down + column * across
                if (offset := other_row * down + other_column * across - start) >= 0:
                    lower[offset, first + start] += one * other * weights
        return lower

    def minimise(self, energy: Values, weights: Values, wanted: Values) -> Values:
        """The u (N, C) of least u' E u + sum_i w_i (u_i - wanted_i)^2, for a positive semidefinite E of differences.

        energy: of `energy`. weights: (N,), not negative. wanted: (N, C).
        """
        lower = np.copy(energy)  # with contiguous columns, as `solve_banded` overwrites it
        lower[0] += weights
        return solve_banded(lower, weights[:, None] * wanted)
