"""The interface of a trunk, and the layer that replaces batch normalisation.

With fixed statistics batch normalisation is an affine map per channel (`ChannelAffine`). Training sees a few
photographs at a time, whose batch statistics would be noise. Therefore the pretrained statistics are folded into scale
and shift on loading, and both are trained like any other weight.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from math import floor
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomatch.errors import InputError
from geomatch.options import Precision
from geomatch.runtime.device import autocast


class Trunk(nn.Module, ABC):
    """A network read at several stages.

    channels, strides, offsets: of each stage, by its name: of a convolutional trunk a number, 1 being the finest. Cell
    ``k`` is centred on input pixel ``offset + stride * k``; the offset is 0 where every convolution is centred.
    """

    channels: Mapping[Any, int]
    strides: Mapping[Any, int]
    offsets: Mapping[Any, float]

    @property
    def margin(self) -> int:
        """Pixels to mirror around an image so that the cells of the coarsest stage lie evenly on it."""
        stage = max(self.strides, key=self.strides.__getitem__)
        return floor(self.offsets[stage] + (1 - self.strides[stage]) / 2) % self.strides[stage]

    def read(self, images: Tensor, stages: Sequence[Any], precision: Precision) -> dict[Any, Tensor]:
        """The same as `forward`, computed with a precision; the result is float32."""
        with autocast(images.device, precision):
            taps = self(images, stages)
        return {stage: taps[stage].float() for stage in stages}

    def to_cells(self, stage: Any, pixels: Tensor) -> Tensor:
        """Coordinates, in cells of a stage, of input pixels (..., 2)."""
        return (pixels - self.offsets[stage]) / self.strides[stage]

    def check_stages(self, name: str, stages: Sequence[Any]) -> None:
        """Raise InputError, which begins with ``name``, if the trunk lacks one of the stages."""
        if unknown := [stage for stage in stages if stage not in self.channels]:
            raise InputError(f"{name} has no stage {unknown[0]}: it has {', '.join(map(str, self.channels))}")

    @abstractmethod
    def forward(self, images: Tensor, stages: Sequence[Any]) -> dict[Any, Tensor]:
        """Images (B, 3, H, W), RGB in [0, 1], to {stage: (B, channels, ceil(H/stride), ceil(W/stride))}."""


def parse_stage(name: str) -> int | str:
    """A stage as trunks name it, from text: a number, or a transformer's keys as ``8k``."""
    return int(name) if name.isdecimal() else name


class ChannelAffine(nn.Module):
    """Batch normalisation with fixed statistics: y = weight * x + bias, per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        # The fused kernel needs statistics; with mean 0 and variance 1 it is exactly the affine map.
        self.mean = nn.Buffer(torch.zeros(channels), persistent=False)
        self.variance = nn.Buffer(torch.ones(channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.mean, self.variance, self.weight, self.bias, training=False, eps=1e-12)
