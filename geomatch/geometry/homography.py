"""Homographies: fitting, applying and drawing them at random, and warping images by them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def apply_homography(homography: Tensor, points: Tensor) -> Tensor:
    """Map points (..., K, 2) by homographies (..., 3, 3): p' ~ H (x, y, 1).

    >>> apply_homography(torch.diag(torch.tensor([2.0, 3.0, 1.0])), torch.tensor([[1.0, 1.0]]))
    tensor([[2., 3.]])
    """
    mapped = points @ homography[..., :2].mT + homography[..., 2].unsqueeze(-2)
    return mapped[..., :2] / mapped[..., 2:]


@dataclass(frozen=True)
class WarpRanges:
    """Ranges of random homographies; lengths are shares of the geometric mean of the photograph's sides."""

    smallest_view: float = 0.6
    largest_view: float = 1.15
    rotation_degrees: float = 15.0
    aspect: float = 0.15  # largest log-ratio of the two axes' scales
    shear: float = 0.08
    perspective: float = 0.06  # largest displacement of a corner along each axis
    translation: float = 0.12


def square_corners(size: float) -> Tensor:
    """The corner pixels of a square view of ``size`` pixels: (4, 2) float64, clockwise from the upper left."""
    last = size - 1
    return torch.tensor([[0, 0], [last, 0], [last, last], [0, last]], dtype=torch.float64)


def homography_between(source: Tensor, target: Tensor) -> Tensor:
    """The homography (3, 3) from four points (4, 2) to four others, with H[2, 2] = 1, by the 8 x 8 linear system."""
    x, y = source[:, 0], source[:, 1]
    u, v = target[:, 0], target[:, 1]
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rows_u = torch.stack((x, y, one, zero, zero, zero, -u * x, -u * y), dim=1)
    rows_v = torch.stack((zero, zero, zero, x, y, one, -v * x, -v * y), dim=1)
    solution = torch.linalg.solve(torch.cat((rows_u, rows_v)), torch.cat((u, v)))
    return torch.cat((solution, solution.new_ones(1))).reshape(3, 3)


def random_view(photograph_size: tuple[int, int], size: int, ranges: WarpRanges, generator: torch.Generator) -> Tensor:
    """A random homography (3, 3) float64 from pixels of a ``size`` x ``size`` view to pixels of the photograph."""

    def uniform(reach: float) -> float:
        return reach * (2 * torch.rand((), generator=generator, dtype=torch.float64).item() - 1)

    height, width = photograph_size
    mean_side = math.sqrt(height * width)
    middle_zoom = math.log(ranges.smallest_view * ranges.largest_view) / 2
    zoom = math.exp(middle_zoom + uniform(math.log(ranges.largest_view / ranges.smallest_view) / 2))
    angle = math.radians(uniform(ranges.rotation_degrees))
    stretch = math.exp(uniform(ranges.aspect) / 2)
    cos, sin = math.cos(angle), math.sin(angle)
    rotation = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
    shape = torch.tensor([[stretch, uniform(ranges.shear)], [0, 1 / stretch]], dtype=torch.float64)
    square = square_corners(2) - 0.5  # unit square about the origin
    jitter = torch.tensor([[uniform(ranges.perspective) for _ in range(2)] for _ in range(4)], dtype=torch.float64)
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=torch.float64)
    offset = torch.tensor([uniform(ranges.translation) for _ in range(2)], dtype=torch.float64) * mean_side
    corners = centre + offset + zoom * mean_side * ((square + jitter) @ (rotation @ shape).mT)
    return homography_between(square_corners(size), corners)


def pixel_grid(height: int, width: int, like: Tensor | None = None) -> Tensor:
    """Every pixel's (x, y) in row-major order: (height * width, 2) float64, or of the dtype and device of ``like``."""
    dtype, device = (torch.float64, None) if like is None else (like.dtype, like.device)
    axes = (torch.arange(length, dtype=dtype, device=device) for length in (height, width))
    y, x = torch.meshgrid(*axes, indexing="ij")
    return torch.stack((x, y), dim=-1).reshape(-1, 2)


def warp_image(image: Tensor, homography: Tensor, size: tuple[int, int]) -> Tensor:
    """The view (3, h, w) of an image (3, H, W) float, mirrored at its borders.

    homography: (3, 3), from pixels of the view to pixels of the image. size: (h, w).
    """
    return sample_image(image, apply_homography(homography, pixel_grid(*size))).reshape(3, *size)


def sample_image(image: Tensor, points: Tensor) -> Tensor:
    """Colours (3, N) of an image (3, H, W) float, mirrored at its borders, at positions (N, 2), bilinearly."""
    height, width = image.shape[1:]
    span = points.new_tensor([width, height])
    normalised = ((2 * points + 1) / span - 1).to(image.dtype)
    return F.grid_sample(image[None], normalised[None, None], padding_mode="reflection", align_corners=False)[0, :, 0]


def stack_images(images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack images (3, H, W) of different sizes: (B, 3, H, W), with zeros to the right of and below smaller ones.

    Also returns the (height, width) of each, (B, 2) int64.
    """
    sizes = torch.tensor([image.shape[1:] for image in images])
    height, width = sizes.amax(dim=0).tolist()
    stack = images[0].new_zeros((len(images), 3, height, width))
    for slot, image in zip(stack, images, strict=True):
        slot[:, : image.shape[1], : image.shape[2]] = image
    return stack, sizes


def warp_images(stack: Tensor, sizes: Tensor, homographies: Tensor, side: int) -> Tensor:
    """Square views of many images, V of each, as by `warp_image`, on the device of the stack.

    Positions are computed in the dtype of the stack; in float32 they are off by about 1e-7 of the image's side.

    stack: (B, 3, H, W) float, and sizes: (B, 2), from `stack_images`. homographies: (B, V, 3, 3), from pixels of the
    view to pixels of the image. Returns (B, V, 3, side, side).
    """
    # Positions as planes (B, V, 2, side, side), which is much faster than as pairs.
    axis = torch.arange(side, dtype=stack.dtype, device=stack.device)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    x_y_one = torch.stack((x, y, torch.ones_like(x))).flatten(1)
    positions = (homographies.to(stack) @ x_y_one).reshape(*homographies.shape[:3], side, side)
    positions = positions[:, :, :2] / positions[:, :, 2:]
    # Mirrored here, at each image's own border and not the stack's; the period is 2 * span pixels.
    span = sizes.flip(1)[:, None, :, None, None].to(stack)
    periods = (positions + 0.5) / (2 * span)
    positions = (periods - periods.round()).abs() * (2 * span) - 0.5
    positions = torch.minimum(positions.clamp_(min=0), span - 1)
    height, width = stack.shape[2:]
    x, y = (
        (2 * position + 1) / length - 1 for position, length in zip(positions.unbind(2), (width, height), strict=True)
    )
    grid = torch.stack((x, y), dim=-1).flatten(1, 2)
    read = F.grid_sample(stack, grid, align_corners=False)  # views one below the other
    return read.reshape(len(stack), 3, -1, side, side).transpose(1, 2)
