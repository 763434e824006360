"""What the features made of gradients, with OpenCV, share: the lattice, and what they make of nothing."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from geomatch.features.base import FeatureExtractor
from geomatch.geometry.canvas import Canvas
from geomatch.runtime.optional import opencv

SPACING = 4
"""Pixels of the resized image from one descriptor to the next: finer than the cells of any preset, so that nothing is
interpolated, and about the step of the pixel layer of a deformable spatial pyramid."""

MARGIN = 14
"""Pixels mirrored round the image: as far as a descriptor at the border reaches, and half a spacing more than a
multiple of SPACING, so that the lattice lies evenly on the image."""


class GradientFeatures(FeatureExtractor):
    """An extractor without weights. Raises InputError without OpenCV."""

    def __init__(self, working_size: int, device: torch.device) -> None:
        opencv(self.name)
        self.working_size = working_size
        self.device = device

    def lay_out(self, image: Tensor) -> tuple[Canvas, NDArray[np.uint8]]:
        """An image (3, H, W) uint8 on its canvas, the longer side ``working_size`` pixels, mirrored all round by
        MARGIN; and the canvas' pixels (h, w, 3) uint8, RGB."""
        canvas = Canvas.fit((image.shape[1], image.shape[2]), self.working_size, MARGIN)
        return canvas, np.ascontiguousarray(canvas.draw_bytes(image).numpy())


def unit_descriptors(histograms: NDArray[np.float32]) -> Tensor:
    """Histograms (h, w, C) of gradients as descriptors (C, h, w) float32 of unit length.

    Where there is no gradient at all every orientation counts the same, C^-1/2: such cells are alike, and neither
    very like nor quite unlike any other.
    """
    numbers = torch.from_numpy(histograms).permute(2, 0, 1)
    without_gradient = (numbers == 0).all(dim=0)
    return F.normalize(torch.where(without_gradient, 1.0, numbers), dim=0)
