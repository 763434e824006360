"""The canvas that a network sees: the image resized with its aspect ratio, and mirrored at its borders."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

import torch.nn.functional as F
from torch import Tensor

from geomatch.geometry.grid import Grid, rescale_position


@dataclass(frozen=True)
class Canvas:
    """How an image is drawn for a network: resized with its aspect ratio, then mirrored at its borders.

    A trunk whose convolutions are all centred has the centre of output cell ``k`` on canvas pixel ``stride * k``.
    With a ``margin`` of half the coarsest stride, the cells on the image lie evenly on it. Cells on the margin are
    dropped.

    image_size: (height, width) in pixels. working_size: (height, width) after resizing. margin: pixels mirrored at each
    border after resizing.

    >>> canvas = Canvas.fit((300, 400), longer_side=200, margin=8)
    >>> canvas.working_size
    (150, 200)
    >>> canvas.grid(16)  # in pixels of the image
    Grid(height=9, width=12, origin=(16.5, 16.5), pitch=(32.0, 32.0))
    """

    image_size: tuple[int, int]
    working_size: tuple[int, int]
    margin: int

    @classmethod
    def fit(cls, image_size: tuple[int, int], longer_side: int, margin: int) -> Canvas:
        """The canvas of an image of (height, width) whose longer side is resized to ``longer_side`` pixels."""
        scale = longer_side / max(image_size)
        height, width = (max(margin + 1, round(length * scale)) for length in image_size)
        return cls(image_size, (height, width), margin)

    def draw(self, image: Tensor) -> Tensor:
        """Draw an image (3, H, W) uint8: (1, 3, h + 2 margin, w + 2 margin) float32 in [0, 1]."""
        resized = F.interpolate(image[None], size=self.working_size, mode="bilinear", antialias=True)
        return F.pad(resized.float() / 255, (self.margin,) * 4, mode="reflect")

    def draw_bytes(self, image: Tensor) -> Tensor:
        """The same as `draw` for other libraries: (h + 2 margin, w + 2 margin, 3) uint8 on the CPU."""
        return (255 * self.draw(image)[0]).round().byte().permute(1, 2, 0).cpu()

    def first_cell(self, stride: int, offset: float = 0.0) -> int:
        """Index, along either axis, of the first cell whose centre lies on the image; see `grid`."""
        return ceil((self.margin - offset) / stride)

    def grid(self, stride: int, offset: float = 0.0) -> Grid:
        """The grid, in pixels of the image, of the cells whose centres lie on the image.

        The centre of cell ``k`` is pixel ``offset + stride * k`` of the canvas.
        """
        first = self.first_cell(stride, offset)
        counts, origin, pitch = [], [], []
        for full, working in zip(self.image_size, self.working_size, strict=True):
            counts.append(floor((self.margin + working - 1 - offset) / stride) - first + 1)
            origin.append(rescale_position(offset + first * stride - self.margin, working, full))
            pitch.append(stride * full / working)
        return Grid(counts[0], counts[1], origin=(origin[1], origin[0]), pitch=(pitch[1], pitch[0]))

    def to_cells(self, positions: Tensor, stride: int, offset: float = 0.0) -> Tensor:
        """Coordinates, in cells of a trunk's whole output, of positions (..., 2) in pixels of the image."""
        return self.grid(stride, offset).to_cells(positions) + self.first_cell(stride, offset)

    def crop(self, cells: Tensor, stride: int, offset: float = 0.0) -> Tensor:
        """A trunk's output (..., h, w) without the cells whose centres lie on the margin."""
        first, grid = self.first_cell(stride, offset), self.grid(stride, offset)
        return cells[..., first : first + grid.height, first : first + grid.width]
