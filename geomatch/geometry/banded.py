"""Quadratic energies on a lattice of points, minimised by a banded Cholesky factorisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import solveh_banded

Values = NDArray[np.float64]
Differences = sparse.csr_array

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
        size = self.height * self.width
        if self.width <= self.height:
            return np.arange(size).reshape(self.height, self.width)
        return np.arange(size).reshape(self.width, self.height).T

    def flat(self, maps: Values) -> Values:
        """Maps (C, height, width) as rows (N, C) in the order of the numbers."""
        rows = np.empty((self.height * self.width, len(maps)))
        rows[self.numbers] = np.moveaxis(maps, 0, -1)
        return rows

    def maps(self, rows: Values) -> Values:
        """The inverse of `flat`."""
        return np.moveaxis(rows[self.numbers], -1, 0)

    def first_differences(self) -> tuple[Differences, Differences]:
        """Of neighbours, right minus left in row-major order, and lower minus upper."""
        i = self.numbers
        return self._differences((i[:, 1:], 1), (i[:, :-1], -1)), self._differences((i[1:], 1), (i[:-1], -1))

    def second_differences(self) -> tuple[Differences, Differences, Differences]:
        """Along x, along y, and mixed: those that a thin plate resists."""
        i = self.numbers
        return (
            self._differences((i[:, :-2], 1), (i[:, 1:-1], -2), (i[:, 2:], 1)),
            self._differences((i[:-2], 1), (i[1:-1], -2), (i[2:], 1)),
            self._differences((i[:-1, :-1], 1), (i[:-1, 1:], -1), (i[1:, :-1], -1), (i[1:, 1:], 1)),
        )

    def _differences(self, *terms: tuple[NDArray[np.intp], float]) -> Differences:
        count = terms[0][0].size
        columns = np.concatenate([points.ravel() for points, _ in terms])
        values = np.repeat([float(factor) for _, factor in terms], count)
        rows = np.tile(np.arange(count), len(terms))
        return sparse.csr_array((values, (rows, columns)), (count, self.height * self.width))

    def minimise(self, energy: sparse.csr_array, weights: Values, wanted: Values) -> Values:
        """The u (N, C) of least u' E u + sum_i w_i (u_i - wanted_i)^2, for a positive semidefinite E of differences.

        energy: E (N, N). weights: (N,), not negative. wanted: (N, C).
        """
        band = _REACH * min(self.height, self.width) + 1
        lower = np.zeros((band + 1, len(weights)))
        diagonals = energy.todia()
        for offset, values in zip(diagonals.offsets, diagonals.data, strict=True):
            if offset <= 0:
                lower[-offset, : len(weights) + offset] = values[: len(weights) + offset]
        lower[0] += weights
        return np.asarray(
            solveh_banded(lower, weights[:, None] * wanted, lower=True, overwrite_ab=True, check_finite=False)
        )


def energy_of(terms: Sequence[tuple[Differences, Values]]) -> sparse.csr_array:
    """The sum of D' diag(w) D over pairs of differences D and their weights w."""
    return sparse.csr_array(sum(each.T @ (sparse.diags_array(weight) @ each) for each, weight in terms))
