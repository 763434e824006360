"""The best partner of every cell in both directions, in one pass over a score matrix that is never held whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from geomatch.errors import OutOfMemoryError

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
        forward[start:stop] = _argmax_of_rows(scores)
        highest = scores.amax(dim=0)
        better = (highest > best).nonzero()[:, 0]
        if len(better):
            best[better] = highest[better]
            backward[better] = start + _argmax_of_rows(scores[:, better].mT.contiguous())
    return Partners(forward, backward)


def _argmax_of_rows(scores: Tensor) -> Tensor:
    # Both return the first of equal maxima; on a CPU numpy's is vectorised and several times faster.
    if scores.device.type == "cpu":
        return torch.from_numpy(scores.numpy().argmax(axis=1))
    return scores.argmax(dim=1)
