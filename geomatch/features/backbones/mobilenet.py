"""MobileNet v1 (Howard et al., 2017, arXiv 1704.04861) as a trunk, for training with a teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from geomatch.errors import InputError
from geomatch.features.backbones.base import ChannelAffine, Trunk

BATCH_NORM_EPSILON = 1e-3
_STRIDED_BLOCKS = (2, 4, 6)
_DILATED_BLOCK = 13  # block 12, which would halve the map, keeps stride 16; the block after it is dilated


class MobileNet(Trunk):
    """The thirteen separable blocks of MobileNet v1, the last two kept at stride 16; a stage is a block's output."""

    def __init__(self, widths: Sequence[int]) -> None:
        """widths: the channels of the first convolution and of the thirteen blocks."""
        super().__init__()
        stride, strides = 2, {}
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 3, 2, padding=1, bias=False), *_activation(widths[0]))
        self.blocks = nn.ModuleDict()
        for block, (inputs, outputs) in enumerate(pairwise(widths), start=1):
            step, dilation = 1 + (block in _STRIDED_BLOCKS), 1 + (block >= _DILATED_BLOCK)
            stride *= step
            strides[block] = stride
            self.blocks[str(block)] = nn.Sequential(
                nn.Conv2d(inputs, inputs, 3, step, padding=dilation, dilation=dilation, groups=inputs, bias=False),
                *_activation(inputs),
                nn.Conv2d(inputs, outputs, 1, bias=False),
                *_activation(outputs),
            )
        self.channels = dict(enumerate(widths[1:], start=1))
        self.strides = strides
        self.offsets = dict.fromkeys(self.strides, 0.0)

    def forward(self, images: Tensor, stages: Sequence[int]) -> dict[int, Tensor]:
        x = self.stem(2 * images - 1)
        taps: dict[int, Tensor] = {}
        for block in range(1, max(stages) + 1):
            x = self.blocks[str(block)](x)
            if block in stages:
                taps[block] = x
        return taps


def _activation(channels: int) -> tuple[nn.Module, nn.Module]:
    return ChannelAffine(channels), nn.ReLU6()


def load_mobilenet(state: Mapping[str, Tensor], origin: str) -> MobileNet:
    """Build a MobileNet v1 from weights named as Keras names them (kernels height, width, inputs, outputs).

    Keras pads strided convolutions at the right and at the bottom only. Here they are centred, as `Trunk` requires,
    which shifts their receptive fields by less than a cell. Raises InputError, naming ``origin`` and what is missing.
    """
    try:
        widths = [state["conv1/kernel"].shape[3]]
        widths += [state[f"conv_pw_{block}/kernel"].shape[3] for block in range(1, 14)]
        network = MobileNet(widths)
        with torch.no_grad():
            _load_layer(network.stem, 0, state, "conv1/kernel", "conv1_bn")
            for block in range(1, 14):
                layers = cast("nn.Sequential", network.blocks[str(block)])
                _load_layer(layers, 0, state, f"conv_dw_{block}/depthwise_kernel", f"conv_dw_{block}_bn")
                _load_layer(layers, 3, state, f"conv_pw_{block}/kernel", f"conv_pw_{block}_bn")
    except (KeyError, RuntimeError) as error:
        raise InputError(f"{origin}: not a MobileNet v1 as Keras saves it ({error})") from error
    return network


def _load_layer(layers: nn.Sequential, index: int, state: Mapping[str, Tensor], kernel: str, norm: str) -> None:
    """Copy a convolution and the batch normalisation after it, folded into an affine map."""
    axes = (2, 3, 0, 1) if kernel.endswith("depthwise_kernel") else (3, 2, 0, 1)
    convolution, affine = cast("nn.Conv2d", layers[index]), cast("ChannelAffine", layers[index + 1])
    convolution.weight.copy_(state[kernel].float().permute(axes))
    scale = state[f"{norm}/gamma"] * (state[f"{norm}/moving_variance"] + BATCH_NORM_EPSILON).rsqrt()
    affine.weight.copy_(scale)
    affine.bias.copy_(state[f"{norm}/beta"] - state[f"{norm}/moving_mean"] * scale)
