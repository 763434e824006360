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
    kernels = {axis: gaussian_kernel(values.shape[axis], each, values.device) for axis, each in deviations.items()}
    return kernel_sums(values, kernels)


def gaussian_kernel(length: int, deviation: float, device: torch.device) -> Tensor:
    """The Gaussian, of height 1, of the distance between any two of ``length`` entries: (length, length) float32."""
    offsets = torch.arange(length, device=device)
    return torch.exp(-0.5 * ((offsets[:, None] - offsets) / deviation) ** 2)


def kernel_sums(values: Tensor, kernels: Mapping[int, Tensor]) -> Tensor:
    """`gaussian_sums` with the kernel of each axis at hand, for several tensors of one shape."""
    for axis, kernel in kernels.items():
        values = torch.tensordot(values, kernel.to(values), dims=([axis], [0])).movedim(-1, axis)
    return values
