"""What SIFT and HOG share: loading, the lattice of cells, and the descriptor of a cell without gradients."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.errors import InputError
from geomatch.features.base import FeatureExtractor, check_no_argument
from geomatch.geometry.canvas import Canvas
from geomatch.geometry.grid import Grid
from geomatch.io.inputs import Input
from geomatch.runtime.optional import import_opencv

SPACING = 4
"""Pixels of the resized image from one descriptor to the next: finer than the matched cells of any preset, so that
nothing is interpolated, and about the step of the pixel layer of a deformable spatial pyramid."""

MARGIN = 14
"""Pixels mirrored at each border: as far as a descriptor there reaches, and half a spacing more than a multiple of
SPACING, so that the lattice lies evenly on the image."""


class GradientFeatures(FeatureExtractor):
    """An extractor without weights. The constructor raises InputError without OpenCV."""

    def __init__(self, working_size: int, device: torch.device) -> None:
        import_opencv(self.name)
        self.working_size = working_size
        self.device = device

    @classmethod
    def load(cls, argument: str, working_size: int, device: torch.device, weights: Input | None) -> Self:
        check_no_argument(cls.name, argument)
        if weights is not None:
            raise InputError(f"{cls.name} has no weights; leave out --weights {weights}")
        return cls(working_size, device)

    def draw(self, image: Tensor) -> tuple[Canvas, NDArray[np.uint8]]:
        """Resize an image (3, H, W) uint8 and mirror it; returns the canvas and its pixels (h, w, 3) uint8 RGB."""
        canvas = Canvas.fit((image.shape[1], image.shape[2]), self.working_size, MARGIN)
        return canvas, np.ascontiguousarray(canvas.draw_bytes(image).numpy())

    def feature_map(self, histograms: NDArray[np.float32], canvas: Canvas, grid: Grid) -> FeatureMap:
        """The histograms (h, w, C) of a grid's cells as descriptors of unit length.

        Without any gradient every channel is C^-1/2: such cells are equal, and moderately similar to any other.
        """
        channels = torch.from_numpy(histograms).permute(2, 0, 1)
        without_gradient = (channels == 0).all(dim=0)
        descriptors = F.normalize(torch.where(without_gradient, 1.0, channels), dim=0).to(self.device)
        return FeatureMap(descriptors, canvas.image_size, grid, calibration=self.calibration)
