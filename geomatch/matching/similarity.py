"""The best partner of every cell in both directions, in one pass over a score matrix that is never held whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.errors import OutOfMemoryError
from geomatch.matching.base import TargetPoints

# Rows are taken a few at a time so that a block of scores stays in cache while it is swept, but not so few that
# reading the other image's descriptors anew for each block costs more than multiplying them.
_CACHED_SCORES = 200_000
_FEWEST_ROWS = 128


@dataclass(frozen=True)
class Partners:
    """forward: (N,) int64, the best target cell of each source cell; backward: (M,), the best source cell of each
    target cell. Ties go to the lowest index."""

    forward: Tensor
    backward: Tensor


@dataclass(frozen=True)
class Similarity:
    """<a_i, b_j> of the N and M cells of two images, some rows at a time.

    a: (C, N), b: (C, M), descriptors of unit length. whole: all of it (N, M), if it was computed beforehand.
    """

    a: Tensor
    b: Tensor
    whole: Tensor | None = None

    @classmethod
    def of(cls, source: FeatureMap, target: FeatureMap) -> Similarity:
        return cls(source.descriptors.flatten(1), target.descriptors.flatten(1))

    def kept(self, max_bytes: int) -> Similarity:
        """The same, computed now, to be read more than once, if an eighth of ``max_bytes`` holds it."""
        if 8 * 4 * math.prod(self.shape) > max_bytes:
            return self
        return Similarity(self.a, self.b, self.a.mT @ self.b)

    @property
    def shape(self) -> tuple[int, int]:
        return self.a.shape[1], self.b.shape[1]

    @property
    def back(self) -> Similarity:
        """That of the second image's cells to the first's."""
        return Similarity(self.b, self.a, None if self.whole is None else self.whole.mT.contiguous())

    def rows(self, start: int, stop: int) -> Tensor:
        """(stop - start, M) float32, not to be changed in place."""
        return self.a[:, start:stop].mT @ self.b if self.whole is None else self.whole[start:stop]


def row_blocks(rows: int, columns: int, max_bytes: int) -> Iterator[tuple[int, int]]:
    """Split ``rows`` into [start, stop) blocks whose float32 scores, held three times, stay under ``max_bytes``.

    Three times, since a search holds the scores, those of its improved columns, and these turned into rows.

    Raises OutOfMemoryError if not even one row fits.
    """
    fitting = max_bytes // (4 * columns * 3)
    if fitting < 1:
        raise OutOfMemoryError(
            f"one row of {columns} scores does not fit into {max_bytes} bytes: "
            "raise --max-memory or choose a faster --preset"
        )
    step = min(fitting, max(_FEWEST_ROWS, _CACHED_SCORES // columns))
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def best_partners(
    score_rows: Callable[[int, int], Tensor], shape: tuple[int, int], max_bytes: int, device: torch.device
) -> Partners:
    """Arg-maxima of every row and every column of an (N, M) score matrix.

    score_rows: gives rows [start, stop) of the matrix, (stop - start, M) float32 without NaN.

    Each block's rows are settled at once. A column's best so far is only looked up where the block holds something
    larger, which after the first few blocks is rare.
    """
    rows, columns = shape
    forward = torch.empty(rows, dtype=torch.int64, device=device)
    backward = torch.zeros(columns, dtype=torch.int64, device=device)
    best = torch.full((columns,), -torch.inf, device=device)
    for start, stop in row_blocks(rows, columns, max_bytes):
        scores = score_rows(start, stop)
        forward[start:stop] = argmax_of_rows(scores)
        highest = scores.amax(dim=0)
        better = (highest > best).nonzero()[:, 0]
        if len(better):
            best[better] = highest[better]
            backward[better] = start + argmax_of_rows(scores[:, better].mT.contiguous())
    return Partners(forward, backward)


def place(
    source: FeatureMap, target: FeatureMap, partners: Partners, window: int, temperature: float, max_bytes: int
) -> tuple[TargetPoints, TargetPoints]:
    """Partners of cells, refined below a cell (see `refine`), as placements of either image in the other."""
    there = refine(source, target, partners.forward, window, temperature, max_bytes)
    back = refine(target, source, partners.backward, window, temperature, max_bytes)
    return TargetPoints(source.grid, target.grid.to_pixels(there)), TargetPoints(
        target.grid, source.grid.to_pixels(back)
    )


def refine(
    source: FeatureMap, target: FeatureMap, partners: Tensor, window: int, temperature: float, max_bytes: int
) -> Tensor:
    """Move each partner by how the soft-argmaxes, over the cells around it, of similarity to its source cell and of
    similarity to itself differ: a cell that looks like its partner lies right on it.

    partners: (N,) target cell of each source cell. window: how many cells around, in each direction. temperature: of
    the softmax, in units of cosine similarity. Returns fractional target cells (N, 2), x then y. Cells of the window
    that fall off the grid have no weight.
    """
    a, b = (features.descriptors.flatten(1).mT.contiguous() for features in (source, target))
    position = target.grid.cells(a.device)
    refined = torch.empty(len(partners), 2, device=a.device)
    for begin, end in row_blocks(len(partners), (2 * window + 1) ** 2 * a.shape[1], max_bytes):
        near, on_grid = target.grid.window(partners[begin:end], window)
        windows = b.index_select(0, near.flatten()).reshape(*near.shape, -1)
        partner = partners[begin:end]
        scores = torch.stack((a[begin:end], b[partner]), dim=1) @ windows.mT
        weights = torch.softmax(scores.masked_fill(~on_grid[:, None], -torch.inf) / temperature, dim=2)
        seen, seen_by_partner = (weights @ position[near]).unbind(dim=1)
        refined[begin:end] = position[partner] + (seen - seen_by_partner)
    return refined


def argmax_of_rows(scores: Tensor) -> Tensor:
    """The first maximum of each row of (N, M): (N,) int64."""
    # Both return the first of equal maxima; on a CPU numpy's is vectorised and several times faster.
    if scores.device.type == "cpu":
        return torch.from_numpy(scores.numpy().argmax(axis=1))
    return (scores.byte() if scores.dtype == torch.bool else scores).argmax(dim=1)  # which knows no bool
