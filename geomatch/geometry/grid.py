"""Positions in pixels, and the grid of cells that features lie on.

Everywhere in geomatch a position is ``(x, y)`` in pixels with pixel *centres* at integers, so an image of width
``W`` spans ``[-0.5, W - 0.5]``. Cell ``k`` of a grid of ``n`` cells over a length ``L`` has its centre at
``(k + 1/2) * L / n - 1/2``. The package `geometry` is the only place where that half pixel is spelt out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

Position = TypeVar("Position", float, Tensor)


def rescale_position(position: Position, from_length: float, to_length: float) -> Position:
    """Move a position along an axis of ``from_length`` pixels to the same place on one of ``to_length``."""
    return (position + 0.5) * (to_length / from_length) - 0.5


@dataclass(frozen=True)
class Grid:
    """A lattice of ``height`` x ``width`` cells laid over an image.

    The centre of the cell in row ``i`` and column ``j`` is the pixel ``origin + pitch * (j, i)``, with ``origin``
    and ``pitch`` given as (x, y) in pixels of the image.
    """

    height: int
    width: int
    origin: tuple[float, float]
    pitch: tuple[float, float]

    @classmethod
    def over(cls, image_size: tuple[int, int], height: int, width: int) -> Grid:
        """The grid whose cells tile an image of ``image_size`` (height, width) exactly."""
        return cls(
            height,
            width,
            origin=(image_size[1] / width / 2 - 0.5, image_size[0] / height / 2 - 0.5),
            pitch=(image_size[1] / width, image_size[0] / height),
        )

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.width

    def upsampled(self, factor: int) -> Grid:
        """The grid that covers the same area with each cell split into ``factor`` x ``factor``."""
        shift = (1 / factor - 1) / 2
        return Grid(
            self.height * factor,
            self.width * factor,
            origin=(self.origin[0] + self.pitch[0] * shift, self.origin[1] + self.pitch[1] * shift),
            pitch=(self.pitch[0] / factor, self.pitch[1] / factor),
        )

    def pooled(self, factor: int) -> Grid:
        """The grid whose cells stand in the middle of ``factor`` x ``factor`` cells of this one, as many as it takes to
        cover them all."""
        shift = (factor - 1) / 2
        return Grid(
            -(-self.height // factor),
            -(-self.width // factor),
            origin=(self.origin[0] + self.pitch[0] * shift, self.origin[1] + self.pitch[1] * shift),
            pitch=(self.pitch[0] * factor, self.pitch[1] * factor),
        )

    def cells(self, device: torch.device | str = "cpu") -> Tensor:
        """Cell coordinates (x, y) of every cell in row-major order: (height * width, 2) float32."""
        index = torch.arange(self.height * self.width, device=device)
        return torch.stack((index % self.width, index // self.width), dim=-1).float()

    def centres(self, device: torch.device | str = "cpu") -> Tensor:
        """Pixel position of every cell's centre in row-major order: (height * width, 2) float32."""
        return self.to_pixels(self.cells(device))

    def around(self, indices: Tensor, radius: int) -> tuple[Tensor, Tensor]:
        """The cells of the square window of ``radius`` cells about each of (N,) cells, numbered in row-major order.

        Returns (N, K) int64 cells in row-major order of the window, K = (2 radius + 1)^2, and (N, K) bool, which of
        them lie on the grid; for the others stands the nearest cell that does.
        """
        reach = torch.arange(-radius, radius + 1, device=indices.device)
        y = (indices[:, None] // self.width + reach)[:, :, None]
        x = (indices[:, None] % self.width + reach)[:, None, :]
        on_grid = (y >= 0) & (y < self.height) & (x >= 0) & (x < self.width)
        cells = y.clamp(0, self.height - 1) * self.width + x.clamp(0, self.width - 1)
        return cells.flatten(1), on_grid.flatten(1)

    def nearest(self, pixels: Tensor) -> Tensor:
        """The cell nearest to each of the pixels (N, 2), numbered in row-major order: (N,) int64."""
        x, y = self.to_cells(pixels).round().long().unbind(dim=1)
        return y.clamp(0, self.height - 1) * self.width + x.clamp(0, self.width - 1)

    def to_pixels(self, cells: Tensor) -> Tensor:
        """Cell coordinates (..., 2) to pixels (..., 2)."""
        return cells * cells.new_tensor(self.pitch) + cells.new_tensor(self.origin)

    def to_cells(self, pixels: Tensor) -> Tensor:
        """Pixels (..., 2) to fractional cell coordinates (..., 2)."""
        return (pixels - pixels.new_tensor(self.origin)) / pixels.new_tensor(self.pitch)


def read_cells(values: Tensor, cells: Tensor) -> Tensor:
    """Read maps (B, C, h, w) bilinearly at cell coordinates (B, ..., 2); beyond the border the nearest value holds.

    Returns (B, C, ...) in the dtype of ``values``.
    """
    height, width = values.shape[-2:]
    # Divided by numbers, not by a tensor of them, for which a GPU would have to wait.
    x, y = (2 * cells[..., 0] / max(width - 1, 1) - 1, 2 * cells[..., 1] / max(height - 1, 1) - 1)
    points = torch.stack((x, y), dim=-1).reshape(len(cells), 1, -1, 2).to(values.dtype)
    read = F.grid_sample(values, points, mode="bilinear", padding_mode="border", align_corners=True)
    return read.reshape(*values.shape[:2], *cells.shape[1:-1])
