"""The frame that an image is drawn into for a network: resized, never squashed, and mirrored all round."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

import torch.nn.functional as F
from torch import Tensor

from geomatch.geometry.grid import Grid, rescale_position


@dataclass(frozen=True)
class Canvas:
    """How an image is laid out for a convolutional trunk: resized without squashing, then mirror-padded all round.

    A trunk whose convolutions are all centred puts the centre of its output cell ``k`` on canvas pixel
    ``stride * k``. Padding by ``margin`` = half the coarsest stride therefore spreads the cells that fall on the
    image evenly over it; those that fall on the margin are dropped.
    """

    image_size: tuple[int, int]
    working_size: tuple[int, int]
    margin: int

    @classmethod
    def fit(cls, image_size: tuple[int, int], longer_side: int, margin: int) -> Canvas:
        """Scale an image of (height, width) so that its longer side becomes ``longer_side`` pixels."""
        scale = longer_side / max(image_size)
        height, width = (max(margin + 1, round(length * scale)) for length in image_size)
        return cls(image_size, (height, width), margin)

    def draw(self, image: Tensor) -> Tensor:
        """Image (3, H, W) uint8 to canvas (1, 3, h + 2 margin, w + 2 margin) float32 in [0, 1]."""
        resized = F.interpolate(image[None], size=self.working_size, mode="bilinear", antialias=True)
        return F.pad(resized.float() / 255, (self.margin,) * 4, mode="reflect")

    def draw_bytes(self, image: Tensor) -> Tensor:
        """The same as `draw`, as other libraries take images: (h + 2 margin, w + 2 margin, 3) uint8 on the CPU."""
        return (255 * self.draw(image)[0]).round().byte().permute(1, 2, 0).cpu()

    def first_cell(self, stride: int, offset: float = 0.0) -> int:
        """Index of the first cell, in either axis, whose centre lies on the image; see `grid`."""
        return ceil((self.margin - offset) / stride)

    def grid(self, stride: int, offset: float = 0.0) -> Grid:
        """The lattice, in pixels of the image, of those cells whose centres lie on it.

        The centre of cell ``k`` lies on pixel ``offset + stride * k`` of the canvas.
        """
        first = self.first_cell(stride, offset)
        counts, origin, pitch = [], [], []
        for full, working in zip(self.image_size, self.working_size, strict=True):
            counts.append(floor((self.margin + working - 1 - offset) / stride) - first + 1)
            origin.append(rescale_position(offset + first * stride - self.margin, working, full))
            pitch.append(stride * full / working)
        return Grid(counts[0], counts[1], origin=(origin[1], origin[0]), pitch=(pitch[1], pitch[0]))

    def crop(self, cells: Tensor, stride: int) -> Tensor:
        """Drop from a trunk's output (..., h, w) the cells whose centres lie on the margin."""
        first, grid = self.first_cell(stride), self.grid(stride)
        return cells[..., first : first + grid.height, first : first + grid.width]
