"""The contract of a feature extractor, and what the convolutional ones share."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from geomatch.correspondence import ConfidenceModel, FeatureMap
from geomatch.features.backbones.base import Trunk
from geomatch.geometry.canvas import Canvas


class FeatureExtractor(ABC):
    """Image in, FeatureMap out.

    name: as it was asked for. working_size: the longer side, in pixels, that images are resized to first.
    weights_sha256: of the weights file behind it, None for features without weights. precision: of its numbers, which
    are float32 but may have been rounded to less. calibration: what its matches are judged with; the extractor puts it
    on every feature map.
    """

    name: str
    working_size: int
    weights_sha256: str | None = None
    precision: str = "float32"
    calibration: ConfidenceModel = ConfidenceModel()

    @abstractmethod
    def __call__(self, image: Tensor) -> FeatureMap:
        """Describe an image (3, H, W) uint8 RGB, of any size and shape."""


def lay_out(image: Tensor, trunk: Trunk, working_size: int) -> tuple[Canvas, Tensor]:
    """Put an image on a trunk's canvas: its longer side ``working_size`` pixels, never squashed, mirrored all round.

    Returns the canvas and its pixels (1, 3, h, w) float32 in [0, 1] on the trunk's device.
    """
    canvas = Canvas.fit((image.shape[1], image.shape[2]), working_size, margin=max(trunk.strides.values()) // 2)
    pixels = canvas.draw(image).to(next(trunk.parameters()).device, memory_format=torch.channels_last)
    return canvas, pixels
