"""A convolutional trunk and a vision transformer side by side: each sees what the other does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from torch import Tensor

from geomatch.features.backbones.base import Trunk, parse_stage
from geomatch.features.backbones.vit import VisionTransformer

PREFIX = "vit"
Value = TypeVar("Value")


class JointTrunk(Trunk):
    """Two trunks that see the same image. The transformer's stages are named ``vit7``, ``vit8k``."""

    def __init__(self, convolutional: Trunk, transformer: VisionTransformer) -> None:
        super().__init__()
        self.convolutional = convolutional
        self.transformer = transformer
        self.channels = {**convolutional.channels, **_prefixed(transformer.channels)}
        self.strides = {**convolutional.strides, **_prefixed(transformer.strides)}
        self.offsets = {**convolutional.offsets, **_prefixed(transformer.offsets)}

    def forward(self, images: Tensor, stages: Sequence[int | str]) -> dict[int | str, Tensor]:
        taps: dict[int | str, Tensor] = {}
        if numbers := [stage for stage in stages if isinstance(stage, int)]:
            taps |= self.convolutional(images, numbers)
        if others := transformer_stages(stages):
            taps |= _prefixed(self.transformer(images, others))
        return taps


def transformer_stages(stages: Sequence[int | str]) -> list[int | str]:
    """The stages of the transformer among those of a joint trunk, as the transformer names them."""
    return [parse_stage(stage.removeprefix(PREFIX)) for stage in stages if isinstance(stage, str)]


def _prefixed(by_stage: Mapping[int | str, Value]) -> dict[int | str, Value]:
    return {f"{PREFIX}{stage}": value for stage, value in by_stage.items()}
