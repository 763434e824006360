"""The interface of a feature extractor, and what the convolutional ones share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geomatch.correspondence import ConfidenceModel, FeatureMap
from geomatch.errors import InputError
from geomatch.features.backbones.base import Trunk
from geomatch.geometry.canvas import Canvas
from geomatch.options import Precision


class FeatureExtractor(ABC):
    """Extracts the features of an image.

    name: that of the features, with its argument. working_size: the longer side, in pixels, that images are resized to
    first. weights_sha256: of the weights file; None for features without weights. precision: of the descriptors, which
    are float32 but may have been rounded. arithmetic: of the trunks, if there are any; heads and matching are
    float32. calibration: the confidence model, which the extractor puts on every map. by_class: whether images of
    different classes need different extractors, which ``for_class`` gives. fine: whether maps come with a fine map,
    where the trunk has a stage for it. inner: the extractors that this one is made of.
    """

    name: str
    working_size: int
    weights_sha256: str | None = None
    precision: str = "float32"
    arithmetic: Precision = Precision.float32
    calibration: ConfidenceModel = ConfidenceModel()
    by_class: bool = False
    fine: bool = True
    inner: Sequence[FeatureExtractor] = ()

    def compute_in(self, arithmetic: Precision) -> None:
        """Set the arithmetic of the trunks."""
        self.arithmetic = arithmetic
        for each in self.inner:
            each.compute_in(arithmetic)

    def leave_out_fine_maps(self) -> None:
        """Compute no fine maps, which only `geomatch.matching.refinement.fine_search` reads."""
        self.fine = False
        for each in self.inner:
            each.leave_out_fine_maps()

    def for_class(self, _name: str) -> FeatureExtractor:
        """The extractor for images of a class. Raises InputError if these features do not know the class."""
        return self

    def complete(self, features: FeatureMap) -> FeatureMap:
        """Add to features that were kept on disk what they have besides their tensors; by default nothing."""
        return features

    @abstractmethod
    def __call__(self, image: Tensor) -> FeatureMap:
        """Extract the features of an image (3, H, W) uint8 RGB of any size."""

    def extract_batch(self, images: Sequence[Tensor]) -> list[FeatureMap]:
        """Extract the features of several images: those of each alone, but for rounding.

        Networks read images of one canvas size in one pass; by default each image is extracted alone.
        """
        return [self(image) for image in images]


def check_no_argument(feature: str, argument: str) -> None:
    """Raise InputError if features that take no argument were given one, as in ``sift:3``."""
    if argument:
        raise InputError(f"{feature} takes no argument; '{argument}' was given")


@dataclass(frozen=True)
class TrunkReading:
    """What a trunk reads of one image.

    pixels: of the canvas, (1, 3, H, W) float32 in [0, 1]. taps: stages of the trunk, (1, C, h, w) float32 each.
    """

    canvas: Canvas
    pixels: Tensor
    taps: Mapping[Any, Tensor]


def read_trunk(
    images: Sequence[Tensor], trunk: Trunk, stages: Sequence[Any], working_size: int, precision: Precision
) -> list[TrunkReading]:
    """Read images (3, H, W) uint8 at stages of a trunk, those whose canvases have the same size in one pass.

    Canvases are not padded to a common size: the network sees hundreds of pixels around each cell, so features would
    change.
    """
    drawn = [draw_on_canvas(image, trunk, working_size) for image in images]
    found: dict[int, TrunkReading] = {}
    for size in dict.fromkeys(pixels.shape for _, pixels in drawn):
        places = [place for place, (_, pixels) in enumerate(drawn) if pixels.shape == size]
        taps = trunk.read(torch.cat([drawn[place][1] for place in places]), stages, precision)
        for row, place in enumerate(places):
            own = {stage: values[row : row + 1] for stage, values in taps.items()}
            found[place] = TrunkReading(*drawn[place], own)
    return [found[place] for place in range(len(drawn))]


def draw_on_canvas(image: Tensor, trunk: Trunk, working_size: int) -> tuple[Canvas, Tensor]:
    """Resize an image (3, H, W) uint8 to ``working_size`` pixels along its longer side, and mirror it at its borders.

    Returns the canvas, and its pixels (1, 3, h, w) float32 in [0, 1] on the trunk's device.
    """
    canvas = Canvas.fit((image.shape[1], image.shape[2]), working_size, margin=trunk.margin)
    pixels = canvas.draw(image).to(next(trunk.parameters()).device, memory_format=torch.channels_last)
    return canvas, pixels
