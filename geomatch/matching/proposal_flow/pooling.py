"""Features pooled over boxes: one descriptor a box, whatever its size (RoI align, He et al., ICCV 2017)."""

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
    for begin, end in row_blocks(len(boxes), bins * bins * (channels + 4 * SAMPLES**2), max_bytes):
        x, across = _read_along(first[begin:end, 0], last[begin:end, 0], bins, width)
        y, down = _read_along(first[begin:end, 1], last[begin:end, 1], bins, height)
        read = (y[:, :, None, :, None] * width + x[:, None, :, None, :]).flatten(3).flatten(0, 2)
        weights = (down[:, :, None, :, None] * across[:, None, :, None, :]).flatten(3).flatten(0, 2)
        means = F.embedding_bag(read, cells, per_sample_weights=weights, mode="sum")
        pooled[begin:end] = F.normalize(means.reshape(end - begin, -1), dim=1)
    return pooled


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
