"""Whole photographs in the middle of a square, as teachers and the fits before a training see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geomatch.datasets.image_folder import ImageReader
from geomatch.datasets.image_list import LabelledImage
from geomatch.geometry.homography import apply_homography, homography_between, pixel_grid, square_corners, warp_image

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Letterbox:
    """A whole photograph in the middle of a square, mirrored beyond its borders.

    image: (1, 3, T, T) float32 in [0, 1]. photograph_size: (height, width) of the photograph.
    """

    image: Tensor
    photograph_size: tuple[int, int]

    @classmethod
    def of(cls, photograph: Tensor, size: int, device: torch.device = CPU) -> Letterbox:
        """Letterbox a photograph (3, H, W) uint8, on the CPU, into a square of side ``size`` on ``device``."""
        photograph_size = (photograph.shape[1], photograph.shape[2])
        image = warp_image(photograph.float() / 255, letterbox_homography(photograph_size, size), (size, size))[None]
        return cls(image.to(device, memory_format=torch.channels_last), photograph_size)

    def cells(self, stride: int, offset: float = 0.0) -> tuple[Tensor, Tensor]:
        """The centres of a trunk's cells, pixels (N, 2) of the square, and which lie on the photograph, (N,) bool."""
        side = self.image.shape[-1]
        centres = cell_centres(side, stride, offset)
        on_photograph = apply_homography(letterbox_homography(self.photograph_size, side), centres)
        return centres, inside(on_photograph, self.photograph_size)


def draw_letterboxes(
    photographs: Sequence[LabelledImage],
    reader: ImageReader,
    size: int,
    count: int,
    seed: int,
    device: torch.device = CPU,
) -> list[Letterbox]:
    """Random photographs, ``count`` of them if there are so many, in squares of ``size`` pixels on ``device``."""
    order = np.random.default_rng((seed, 0, 3)).permutation(len(photographs))
    chosen = (photographs[index] for index in order)
    return [Letterbox.of(pixels, size, device) for pixels in reader.read(chosen, count)]


def cell_centres(side: int, stride: int, offset: float = 0.0) -> Tensor:
    """The centres ``offset + stride k`` of a trunk's cells, (N, 2) float64 pixels of a square, row by row."""
    cells = -(-side // stride)
    return offset + stride * pixel_grid(cells, cells)


def letterbox_homography(photograph_size: tuple[int, int], size: int) -> Tensor:
    """The homography (3, 3) float64 from a square to the photograph that it shows whole, aspect ratio kept."""
    height, width = photograph_size
    margin = torch.tensor([width - max(height, width), height - max(height, width)], dtype=torch.float64) / 2
    corners = (square_corners(size) + 0.5) * (max(height, width) / size) - 0.5 + margin
    return homography_between(square_corners(size), corners)


def inside(points: Tensor, size: tuple[int, int]) -> Tensor:
    """Whether pixels (N, 2) lie on an image of ``size`` (height, width): (N,) bool."""
    height, width = size
    return ((points >= -0.5) & (points <= points.new_tensor([width - 0.5, height - 0.5]))).all(dim=1)
