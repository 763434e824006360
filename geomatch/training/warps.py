"""Two random views of one photograph, with the exact map between them.

As in Probabilistic Introspection (section 4): the photograph is mirrored beyond its borders, *both* views are warped
(one left as it is would teach the network to tell the warped side), and the transforms lean towards zooming in. The
ranges are open in the paper; `WarpRanges` and `ColourRanges` are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.geometry import apply_homography


@dataclass(frozen=True)
class WarpRanges:
    """Ranges of the random projective transforms; lengths are shares of the photograph's mean side."""

    smallest_view: float = 0.6
    largest_view: float = 1.15
    rotation_degrees: float = 15.0
    aspect: float = 0.15  # largest log-ratio of the two axes' scales
    shear: float = 0.08
    perspective: float = 0.06  # how far each corner moves on its own
    translation: float = 0.12


@dataclass(frozen=True)
class ColourRanges:
    """Ranges of the random changes of colour and illumination."""

    brightness: float = 0.25
    contrast: float = 0.25
    saturation: float = 0.3
    tint: float = 0.08  # largest change of each channel's gain
    shading: float = 0.2  # strength of a linear change of brightness across the view
    grey_probability: float = 0.1


def square_corners(size: float) -> Tensor:
    """The corner pixels of a square view, (4, 2) float64, clockwise from the upper left."""
    last = size - 1
    return torch.tensor([[0, 0], [last, 0], [last, last], [0, last]], dtype=torch.float64)


def homography_between(source: Tensor, target: Tensor) -> Tensor:
    """The homography (3, 3) that takes four points (4, 2) to four others, with H[2, 2] = 1 (the 8x8 linear system)."""
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
    rotation = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64
    )
    shape = torch.tensor([[stretch, uniform(ranges.shear)], [0, 1 / stretch]], dtype=torch.float64)
    square = square_corners(2) - 0.5  # unit square about the origin
    jitter = torch.tensor([[uniform(ranges.perspective) for _ in range(2)] for _ in range(4)], dtype=torch.float64)
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=torch.float64)
    offset = torch.tensor([uniform(ranges.translation) for _ in range(2)], dtype=torch.float64) * mean_side
    corners = centre + offset + zoom * mean_side * ((square + jitter) @ (rotation @ shape).mT)
    return homography_between(square_corners(size), corners)


def pixel_grid(height: int, width: int) -> Tensor:
    """Every pixel's (x, y) in row-major order: (height * width, 2) float64."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64), indexing="ij"
    )
    return torch.stack((x, y), dim=-1).reshape(-1, 2)


def warp_image(image: Tensor, homography: Tensor, size: tuple[int, int]) -> Tensor:
    """The view of ``image`` (3, H, W) float through a homography from view pixels to image pixels: (3, h, w).

    Beyond its borders the image goes on mirrored.
    """
    height, width = image.shape[1:]
    points = apply_homography(homography, pixel_grid(*size))
    span = points.new_tensor([width, height])
    normalised = ((2 * points + 1) / span - 1).to(image.dtype).reshape(1, *size, 2)
    return F.grid_sample(image[None], normalised, padding_mode="reflection", align_corners=False)[0]


def random_colour(view: Tensor, ranges: ColourRanges, generator: torch.Generator) -> Tensor:
    """Change colour and illumination of a view (3, h, w) in [0, 1] at random; the result stays in [0, 1]."""

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(shape, generator=generator) - 1

    grey = view.mean(dim=0, keepdim=True)
    saturation = 1 + ranges.saturation * uniform(1, 1, 1)
    if torch.rand((), generator=generator) < ranges.grey_probability:
        saturation = torch.zeros(1, 1, 1)
    view = grey + saturation * (view - grey)
    view = view.mean() + (1 + ranges.contrast * uniform(1, 1, 1)) * (view - view.mean())
    gain = (1 + ranges.brightness * uniform(1, 1, 1)) * (1 + ranges.tint * uniform(3, 1, 1))
    height, width = view.shape[1:]
    slope = ranges.shading * uniform(2)
    shading = 1 + slope[0] * torch.linspace(-1, 1, width) + slope[1] * torch.linspace(-1, 1, height)[:, None]
    return (view * gain * shading).clamp(0, 1)


def corresponding_points(
    first: Tensor, second: Tensor, size: int, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw points of the first view that the second sees too, with their places there: two (count, 2) float64.

    ``first`` and ``second`` are homographies from view to photograph. Points are drawn uniformly over the shared area
    (again and again until there are enough; views that share next to nothing give repeated points).
    """
    between = torch.linalg.solve(second, first)
    kept: list[Tensor] = []
    for _ in range(8):
        candidates = torch.rand((4 * count, 2), generator=generator, dtype=torch.float64) * (size - 1)
        mapped = apply_homography(between, candidates)
        inside = ((mapped >= 0) & (mapped <= size - 1)).all(dim=1)
        kept.append(torch.cat((candidates, mapped), dim=1)[inside])
        if sum(map(len, kept)) >= count:
            break
    points = torch.cat(kept)
    if len(points) == 0:
        raise ValueError("the two views share no pixel")
    points = points[torch.arange(count) % len(points)]
    return points[:, :2], points[:, 2:]
