"""Gaussian weights of what is around, along the axes of a tensor."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def blurred(values: Tensor, deviations: Mapping[int, float]) -> Tensor:
    """The sums of values under a Gaussian of height 1 round each place, along the axes of the given numbers.

    deviations: by axis, in places. Beyond the border there is nothing. Shape and dtype stay.
    """
    for axis, deviation in deviations.items():
        offsets = torch.arange(values.shape[axis], device=values.device)
        kernel = torch.exp(-0.5 * ((offsets[:, None] - offsets) / deviation) ** 2).to(values)
        values = torch.tensordot(values, kernel, dims=([axis], [0])).movedim(-1, axis)
    return values
