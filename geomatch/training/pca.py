"""Principal components of more columns than fit in memory at once."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def principal_components(columns: Iterable[Tensor], count: int, *, mean_share: float = 1.0) -> tuple[Tensor, Tensor]:
    """The first ``count`` principal directions (count, C) of columns, and their mean (C,), both float64.

    columns: parts (C, N) of them, in any precision, on any device; moments are summed in float64, on that device if it
    has float64. mean_share: how much of the mean is subtracted from the columns first.
    """

    def moments(part: Tensor) -> Tensor:
        x = F.pad(in_double(part), (0, 0, 0, 1), value=1.0)
        return x @ x.mT

    total = sum(map(moments, columns), start=torch.zeros((), dtype=torch.float64))
    total = total / total[-1, -1]
    mean = total[:-1, -1]
    # The second moments of x - a m are those of x less a (2 - a) m m'.
    taken = mean_share * (2 - mean_share) * torch.outer(mean, mean)
    directions = torch.linalg.eigh(total[:-1, :-1] - taken).eigenvectors.flip(1)
    return directions[:, :count].mT, mean


def in_double(tensor: Tensor) -> Tensor:
    """In float64: on the same device, or on the CPU where the device has none."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


@torch.no_grad()
def set_projection(layer: nn.Conv2d, directions: Tensor, mean: Tensor) -> None:
    """Make a 1x1 convolution compute directions (D, C) times (column - mean (C,))."""
    assert layer.bias is not None
    layer.weight.copy_(directions[:, :, None, None])
    layer.bias.copy_(-directions @ mean)
