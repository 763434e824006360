"""Features pooled over boxes: one descriptor a box, whatever its size.

Means of bins as RoI align (He et al., ICCV 2017) has them, and maxima as RoI pooling (Girshick, ICCV 2015).
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.matching.similarity import row_blocks

SAMPLES: Final = 2
"""Points along either axis at which each bin reads the features."""


def pool(features: FeatureMap, boxes: Tensor, bins: int, max_bytes: int) -> Tensor:
    """Descriptors (B, bins * bins * C) float32 of boxes (B, 4), of unit length.

    boxes: left, top, right, bottom in pixels of the image. Each is cut into ``bins`` x ``bins`` equal bins; a bin's
    descriptor is the mean of the features read bilinearly at SAMPLES x SAMPLES points spread evenly over it; beyond the
    outermost cells the nearest cell is read. Order: by row, column, channel.

    Such a mean is a weighted sum of a few cells, and is computed as that: it is faster than sampling the points first.

    max_bytes: bound on the memory besides the result. Raises OutOfMemoryError if it cannot hold even one box.
    """
    (channels, height, width), grid = features.descriptors.shape, features.grid
    cells = features.descriptors.flatten(1).mT.contiguous()
    first, last = grid.to_cells(boxes[:, :2]), grid.to_cells(boxes[:, 2:])
    pooled = boxes.new_empty(len(boxes), bins * bins * channels)
    for begin, end in row_blocks(len(boxes), bins * bins * (channels + 4 * SAMPLES**2), max_bytes, boxes.device):
        x, across = _read_along(first[begin:end, 0], last[begin:end, 0], bins, width)
        y, down = _read_along(first[begin:end, 1], last[begin:end, 1], bins, height)
        read = (y[:, :, None, :, None] * width + x[:, None, :, None, :]).flatten(3).flatten(0, 2)
        weights = (down[:, :, None, :, None] * across[:, None, :, None, :]).flatten(3).flatten(0, 2)
        means = F.embedding_bag(read, cells, per_sample_weights=weights, mode="sum")
        pooled[begin:end] = F.normalize(means.reshape(end - begin, -1), dim=1)
    return pooled


def pool_maxima(cells: Tensor, first: Tensor, last: Tensor, bins: int) -> Tensor:
    """RoI pooling: the maxima (B, bins * bins * C) of a map (C, h, w) over the bins of B boxes, and its gradient.

    first, last: (B, 2), x then y, upper left and lower right corners of the boxes in cell coordinates. As in the
    original, corners are rounded to cells, and a box of n cells along an axis is cut into bins of n / bins, each of
    which takes all cells that it touches. Order: by row, column, channel.

    A bin is covered by four windows of 2^a x 2^b cells, whose maxima are computed once for all boxes (a sparse table).
    """
    channels, height, width = cells.shape
    top, tall = _cells_of_bins(first[:, 1], last[:, 1], bins, height)
    left, wide = _cells_of_bins(first[:, 0], last[:, 0], bins, width)
    rows = _windows(cells.permute(1, 2, 0), int(tall.max()) if len(tall) else 1, dim=0)
    table = torch.stack([torch.stack(_windows(each, int(wide.max()) if len(wide) else 1, dim=1)) for each in rows])
    down, across = (each.double().log2().floor().long() for each in (tall, wide))
    window = (down[:, :, None] * table.shape[1] + across[:, None]) * height * width
    maxima = None
    for y in (top, top + tall - 2**down):
        for x in (left, left + wide - 2**across):
            found = table.flatten(0, 3)[window + y[:, :, None] * width + x[:, None]]
            maxima = found if maxima is None else torch.maximum(maxima, found)
    assert maxima is not None
    return maxima.reshape(len(first), bins * bins * channels)


def _windows(values: Tensor, longest: int, dim: int) -> list[Tensor]:
    """The maxima of values over windows of 1, 2, 4 ... entries along a dimension, no longer than ``longest``.

    Entry i is that of the window which begins at i; beyond the end there is nothing.
    """
    found, length = [values], 1
    while 2 * length <= longest:
        last = found[-1]
        later = last.narrow(dim, length, last.shape[dim] - length)
        rest = last.narrow(dim, last.shape[dim] - length, length)
        found.append(torch.cat((torch.maximum(last.narrow(dim, 0, later.shape[dim]), later), rest), dim=dim))
        length *= 2
    return found


def _cells_of_bins(first: Tensor, last: Tensor, bins: int, cells: int) -> tuple[Tensor, Tensor]:
    """The first cell of each bin along one axis, and the number of its cells, at least one: two (B, bins) int64."""
    begin, end = (each.round().clamp(0, cells - 1).long()[:, None] for each in (first, last))
    length = (end - begin + 1).clamp(min=1)
    steps = torch.arange(bins, device=first.device)
    lower = begin + steps * length // bins
    upper = begin + ((steps + 1) * length + bins - 1) // bins
    return lower, upper - lower


def _read_along(first: Tensor, last: Tensor, bins: int, cells: int) -> tuple[Tensor, Tensor]:
    """Which cells along one axis each bin reads, and their weights: two (B, bins, 2 * SAMPLES).

    first, last: (B,), the ends of the boxes along that axis, in cell coordinates.
    """
    share = (torch.arange(bins * SAMPLES, device=first.device) + 0.5) / (bins * SAMPLES)
    position = torch.lerp(first[:, None], last[:, None], share).clamp(0, cells - 1)
    lower = position.floor().clamp(max=max(cells - 2, 0))
    upper = (lower + 1).clamp(max=cells - 1)
    read = torch.stack((lower, upper), dim=-1).long()
    weights = torch.stack((1 - (position - lower), position - lower), dim=-1) / SAMPLES
    shape = len(first), bins, 2 * SAMPLES
    return read.reshape(shape), weights.reshape(shape)
