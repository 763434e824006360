"""Cosine similarity of the cells of two images, and its arg-maxima both ways in one pass over blocks of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.errors import OutOfMemoryError

# A block of scores should stay in the processor's cache while it is read. Blocks must not be too small either: the
# other image's descriptors are read again for each block, which would then cost more than multiplying them.
_CACHED_SCORES = 200_000
_FEWEST_ROWS = 128

OUTSIDE: Final = -1e6
"""What the similarity of a cell outside a mask to any other is lowered by: below what any matcher's terms make up for,
and finite, because their products with 0 must be 0."""


@dataclass(frozen=True)
class Partners:
    """forward: (N,) int64, the best target cell of each source cell; backward: (M,) int64, the best source cell of
    each target cell. Ties go to the lowest index."""

    forward: Tensor
    backward: Tensor


@dataclass(frozen=True)
class Similarity:
    """<a_i, b_j> of the N and M cells of two images; OUTSIDE or less if one of the cells lies outside a mask.

    a: (C, N), b: (C, M), descriptors of unit length. Two more channels hold the masks, if there are any, so that every
    product of descriptors respects them. stored: the whole product (N, M), or None if rows are computed when they are
    read.
    """

    a: Tensor
    b: Tensor
    stored: Tensor | None = None

    @classmethod
    def of(cls, source: FeatureMap, target: FeatureMap) -> Similarity:
        a, b = source.descriptors.flatten(1), target.descriptors.flatten(1)
        if source.inside is None and target.inside is None:
            return cls(a, b)
        ones_a, ones_b = (torch.ones_like(each[:1]) for each in (a, b))
        return cls(
            torch.cat((a, _penalty(source, ones_a), ones_a)),
            torch.cat((b, ones_b, _penalty(target, ones_b))),
        )

    def store_if_small(self, max_bytes: int) -> Similarity:
        """The same with the product computed now, if an eighth of ``max_bytes`` holds it; otherwise itself."""
        if 8 * 4 * math.prod(self.shape) > max_bytes:
            return self
        return Similarity(self.a, self.b, self.a.mT @ self.b)

    @property
    def shape(self) -> tuple[int, int]:
        return self.a.shape[1], self.b.shape[1]

    @property
    def reversed(self) -> Similarity:
        """Similarity of the second image's cells to the first's."""
        return Similarity(self.b, self.a, None if self.stored is None else self.stored.mT.contiguous())

    def rows(self, start: int, stop: int) -> Tensor:
        """Rows [start, stop): (stop - start, M) float32, not to be changed in place."""
        return self.a[:, start:stop].mT @ self.b if self.stored is None else self.stored[start:stop]


def _penalty(features: FeatureMap, ones: Tensor) -> Tensor:
    """OUTSIDE for each cell (1, N) outside the mask, 0 for the others."""
    return ones * (0.0 if features.inside is None else OUTSIDE * ~features.inside)


def row_blocks(rows: int, columns: int, max_bytes: int, device: torch.device) -> Iterator[tuple[int, int]]:
    """Split ``rows`` into [start, stop) blocks whose float32 scores, held three times, stay under ``max_bytes``.

    Three times, because `best_partners` holds the scores, those of the improved columns, and a transposed copy. On a
    CPU blocks are as small as its cache; a GPU takes as many rows at once as it may.

    Raises OutOfMemoryError if not even one row fits.
    """
    fitting = max_bytes // (4 * columns * 3)
    if fitting < 1:
        raise OutOfMemoryError(
            f"one row of {columns} scores does not fit into {max_bytes} bytes: "
            "raise --max-memory or choose a faster --preset"
        )
    step = min(fitting, max(_FEWEST_ROWS, _CACHED_SCORES // columns)) if device.type == "cpu" else fitting
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def best_partners(
    score_rows: Callable[[int, int], Tensor], shape: tuple[int, int], max_bytes: int, device: torch.device
) -> Partners:
    """Arg-maxima of every row and every column of an (N, M) score matrix.

    score_rows: gives rows [start, stop) of the matrix, (stop - start, M) float32 without NaN.

    The rows of a block are finished at once. On a CPU a column's arg-max is searched only if the block holds a score
    larger than the best so far, which is rare after the first few blocks. A GPU would wait to know which columns these
    are, and has few blocks: it searches all.
    """
    rows, columns = shape
    forward = torch.empty(rows, dtype=torch.int64, device=device)
    backward = torch.zeros(columns, dtype=torch.int64, device=device)
    best = torch.full((columns,), -torch.inf, device=device)
    for start, stop in row_blocks(rows, columns, max_bytes, device):
        scores = score_rows(start, stop)
        forward[start:stop] = argmax_of_rows(scores)
        highest = scores.amax(dim=0)
        better = highest > best
        if device.type != "cpu":
            best = torch.maximum(best, highest)
            backward = torch.where(better, start + argmax_of_rows(scores.mT.contiguous()), backward)
        elif len(better := better.nonzero()[:, 0]):
            best[better] = highest[better]
            backward[better] = start + argmax_of_rows(scores[:, better].mT.contiguous())
    return Partners(forward, backward)


def argmax_of_rows(scores: Tensor) -> Tensor:
    """The first maximum of each row of (N, M): (N,) int64."""
    # Both return the first of equal maxima; on a CPU numpy's is vectorised and several times faster.
    if scores.device.type == "cpu":
        return torch.from_numpy(scores.numpy().argmax(axis=1))
    return (scores.byte() if scores.dtype == torch.bool else scores).argmax(dim=1)  # torch's does not take bool
