"""Positions in pixels, and the grid of cells that features lie on.

The half-pixel rule: everywhere in geomatch a position is ``(x, y)`` in pixels, with pixel *centres* at integers. An
image of width ``W`` therefore spans ``[-0.5, W - 0.5]``, and cell ``k`` of a grid of ``n`` cells over a length ``L``
has its centre at ``(k + 1/2) * L / n - 1/2``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

Position = TypeVar("Position", float, Tensor)


def rescale_position(position: Position, from_length: float, to_length: float) -> Position:
    """The same place on an axis of ``to_length`` pixels as ``position`` on one of ``from_length`` pixels.

    >>> rescale_position(0.0, 4, 8)  # the middle of the first of 4 pixels lies between the first two of 8
    0.5
    """
    return (position + 0.5) * (to_length / from_length) - 0.5


@dataclass(frozen=True)
class Grid:
    """A lattice of ``height`` x ``width`` cells over an image.

    The centre of the cell in row ``i`` and column ``j`` is the position ``origin + pitch * (j, i)``. A cell has
    coordinates (x, y) = (j, i), which may be fractional, and a number ``i * width + j``, in row-major order.

    origin: (x, y) of the first cell's centre, in pixels of the image. pitch: (x, y) from one centre to the next, in
    pixels of the image.

    >>> grid = Grid.over((4, 8), height=2, width=4)
    >>> grid.origin, grid.pitch
    ((0.5, 0.5), (2.0, 2.0))
    >>> grid.to_pixels(torch.tensor([3.0, 1.0]))
    tensor([6.5000, 2.5000])
    """

    height: int
    width: int
    origin: tuple[float, float]
    pitch: tuple[float, float]

    @classmethod
    def over(cls, image_size: tuple[int, int], height: int, width: int) -> Grid:
        """The grid whose cells tile an image of ``image_size``, (height, width) in pixels, exactly."""
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
        """The grid that splits each cell into ``factor`` x ``factor`` cells."""
        shift = (1 / factor - 1) / 2
        return Grid(
            self.height * factor,
            self.width * factor,
            origin=(self.origin[0] + self.pitch[0] * shift, self.origin[1] + self.pitch[1] * shift),
            pitch=(self.pitch[0] / factor, self.pitch[1] / factor),
        )

    def pooled(self, factor: int) -> Grid:
        """The grid whose cells each cover ``factor`` x ``factor`` cells of this one, at the edge perhaps fewer."""
        shift = (factor - 1) / 2
        return Grid(
            -(-self.height // factor),
            -(-self.width // factor),
            origin=(self.origin[0] + self.pitch[0] * shift, self.origin[1] + self.pitch[1] * shift),
            pitch=(self.pitch[0] * factor, self.pitch[1] * factor),
        )

    def shifted(self, x: float, y: float) -> Grid:
        """The same grid, over a part of an image, in pixels of the whole image: the part's pixel (0, 0) is (x, y)."""
        return Grid(self.height, self.width, (self.origin[0] + x, self.origin[1] + y), self.pitch)

    def flipped(self, width: int) -> Grid:
        """The same grid on the image, ``width`` pixels wide, flipped left to right.

        >>> Grid(1, 3, origin=(2.0, 0.0), pitch=(4.0, 4.0)).flipped(20).origin  # centres at 2, 6, 10 become 17, 13, 9
        (9.0, 0.0)
        """
        last = self.origin[0] + self.pitch[0] * (self.width - 1)
        return Grid(self.height, self.width, (width - 1 - last, self.origin[1]), self.pitch)

    def cells(self, device: torch.device | str = "cpu") -> Tensor:
        """Coordinates (x, y) of every cell in row-major order: (height * width, 2) float32, in cells."""
        index = torch.arange(self.height * self.width, device=device)
        return torch.stack((index % self.width, index // self.width), dim=-1).float()

    def centres(self, device: torch.device | str = "cpu") -> Tensor:
        """Position (x, y) of every cell's centre in row-major order: (height * width, 2) float32, in pixels."""
        return self.to_pixels(self.cells(device))

    def window(self, indices: Tensor, radius: int) -> tuple[Tensor, Tensor]:
        """The square window of ``radius`` cells around each of (N,) cells, given by their numbers.

        Returns (N, K) int64, the numbers of the K = (2 radius + 1)^2 cells of each window in row-major order, and
        (N, K) bool, whether they lie on the grid. A cell off the grid has the number of the nearest one on it.
        """
        reach = torch.arange(-radius, radius + 1, device=indices.device)
        y = (indices[:, None] // self.width + reach)[:, :, None]
        x = (indices[:, None] % self.width + reach)[:, None, :]
        nearest_y, nearest_x = y.clamp(0, self.height - 1), x.clamp(0, self.width - 1)
        on_grid = (y == nearest_y) & (x == nearest_x)
        cells = nearest_y * self.width + nearest_x
        return cells.flatten(1), on_grid.flatten(1)

    def nearest(self, pixels: Tensor) -> Tensor:
        """The number of the cell nearest to each of the positions (N, 2) in pixels: (N,) int64."""
        x, y = self.to_cells(pixels).round().long().unbind(dim=1)
        return y.clamp(0, self.height - 1) * self.width + x.clamp(0, self.width - 1)

    def to_pixels(self, cells: Tensor) -> Tensor:
        """Positions (..., 2) in pixels of cell coordinates (..., 2)."""
        # By Python numbers, one axis after the other: a tensor of both would make a GPU wait.
        (x, y), (left, top), (across, down) = cells.unbind(dim=-1), self.origin, self.pitch
        return torch.stack((x * across + left, y * down + top), dim=-1)

    def to_cells(self, pixels: Tensor) -> Tensor:
        """Fractional cell coordinates (..., 2) of positions (..., 2) in pixels."""
        (x, y), (left, top), (across, down) = pixels.unbind(dim=-1), self.origin, self.pitch
        return torch.stack(((x - left) / across, (y - top) / down), dim=-1)


def read_cells(values: Tensor, cells: Tensor) -> Tensor:
    """Read maps (B, C, h, w) bilinearly at cell coordinates (B, ..., 2); outside a map its nearest value counts.

    Returns (B, C, ...) in the dtype of ``values``.
    """
    height, width = values.shape[-2:]
    # Divided by Python numbers: a tensor of them would make a GPU wait.
    x, y = (2 * cells[..., 0] / max(width - 1, 1) - 1, 2 * cells[..., 1] / max(height - 1, 1) - 1)
    points = torch.stack((x, y), dim=-1).reshape(len(cells), 1, -1, 2).to(values.dtype)
    read = F.grid_sample(values, points, mode="bilinear", padding_mode="border", align_corners=True)
    return read.reshape(*values.shape[:2], *cells.shape[1:-1])
