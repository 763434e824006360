"""Gaussian-weighted sums along the axes of a tensor."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def gaussian_sums(values: Tensor, deviations: Mapping[int, float]) -> Tensor:
    """Around each entry, the sum of all values weighted by a Gaussian of height 1; shape and dtype stay.

    deviations: the Gaussian's standard deviation along each axis, in entries, by the axis's number. Beyond the border
    there is nothing.

    >>> gaussian_sums(torch.tensor([0.0, 1.0, 0.0]), {0: 1.0})
    tensor([0.6065, 1.0000, 0.6065])
    """
    for axis, deviation in deviations.items():
        offsets = torch.arange(values.shape[axis], device=values.device)
        kernel = torch.exp(-0.5 * ((offsets[:, None] - offsets) / deviation) ** 2).to(values)
        values = torch.tensordot(values, kernel, dims=([axis], [0])).movedim(-1, axis)
    return values
