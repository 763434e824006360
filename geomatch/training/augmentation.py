"""Two random views of each photograph of a batch, with the exact map between them.

As in Probabilistic Introspection (section 4): the photograph is mirrored beyond its borders, *both* views are warped
(else the network would learn which is warped), and the transforms zoom in more often than out. The paper does not give
the ranges; those of `WarpRanges` and `ColourRanges` are ours. Random numbers are drawn on the CPU (`draw_view_pairs`),
so they are the same for every device; pixels are computed on the device of the training (`ViewPairs.render`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

from geomatch.geometry.homography import WarpRanges, apply_homography, random_view, stack_images, warp_images


@dataclass(frozen=True)
class ColourRanges:
    """Ranges of the random changes of colour and illumination."""

    brightness: float = 0.25
    contrast: float = 0.25
    saturation: float = 0.3
    tint: float = 0.08  # largest change of each channel's gain
    shading: float = 0.2  # strength of a linear change of brightness across the view
    grey_probability: float = 0.1


@dataclass(frozen=True)
class ViewPairs:
    """All that two views of each of B photographs are made from; view v of photograph b is row (b, v).

    stack, sizes: the photographs, uint8, as from `stack_images`. homographies: (B, 2, 3, 3) float64, from view to
    photograph. points: (B, 2, K, 2) float64, pixels of the views that correspond. mixing (B, 2, 3, 3), contrast
    (B, 2, 3) and shading (B, 2, 2), float32: changes of colour, see `change_colours`.
    """

    stack: Tensor
    sizes: Tensor
    homographies: Tensor
    points: Tensor
    mixing: Tensor
    contrast: Tensor
    shading: Tensor

    def pinned(self) -> Self:
        """The same in pinned memory, from which a GPU copies asynchronously."""
        return self._each(Tensor.pin_memory)

    def to(self, device: torch.device) -> Self:
        """The same on another device, with float64 rounded to float32: not every device has it."""
        rounded = self._each(lambda tensor: tensor.float() if tensor.dtype == torch.float64 else tensor)
        return rounded._each(lambda tensor: tensor.to(device, non_blocking=True))

    def warp(self, homographies: Tensor, side: int) -> Tensor:
        """The photographs through homographies (B, V, 3, 3): (B, V, 3, side, side), float32 in [0, 1]."""
        return warp_images(self.stack.float() / 255, self.sizes, homographies, side)

    def render(self, side: int) -> Tensor:
        """The views, (B, 2, 3, side, side), float32 in [0, 1]."""
        warped = self.warp(self.homographies, side)
        changes = (change.flatten(0, 1) for change in (self.mixing, self.contrast, self.shading))
        return change_colours(warped.flatten(0, 1), *changes).view_as(warped)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(self, **{field.name: change(getattr(self, field.name)) for field in fields(self)})


def draw_view_pairs(
    photographs: Sequence[Tensor],
    side: int,
    count: int,
    warps: WarpRanges,
    colours: ColourRanges,
    generator: torch.Generator,
) -> ViewPairs:
    """Two views of ``side`` x ``side`` pixels of each photograph (3, H, W) uint8, with ``count`` points they share."""
    homographies, points, changes = [], [], []
    for photograph in photographs:
        shape = (photograph.shape[1], photograph.shape[2])
        first, second = (random_view(shape, side, warps, generator) for _ in range(2))
        homographies.append(torch.stack((first, second)))
        points.append(torch.stack(corresponding_points(first, second, side, count, generator)))
        both = zip(*(random_colours(colours, generator) for _ in range(2)), strict=True)
        changes.append([torch.stack(change) for change in both])
    stack, sizes = stack_images(photographs)
    mixing, contrast, shading = (torch.stack(each) for each in zip(*changes, strict=True))
    return ViewPairs(stack, sizes, torch.stack(homographies), torch.stack(points), mixing, contrast, shading)


def random_colours(ranges: ColourRanges, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """A random change of colour and illumination for `change_colours`: mixing (3, 3), contrast (3,), shading (2,)."""

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(shape, generator=generator) - 1

    saturation = 1 + ranges.saturation * uniform(1)
    if torch.rand((), generator=generator) < ranges.grey_probability:
        saturation = torch.zeros(1)
    contrast = 1 + ranges.contrast * uniform(1)
    gain = (1 + ranges.brightness * uniform(1)) * (1 + ranges.tint * uniform(3))
    shading = ranges.shading * uniform(2)
    # Saturation moves colours away from their grey, contrast from the view's mean: both are linear.
    mixing = contrast * gain[:, None] * (saturation * torch.eye(3) + (1 - saturation) / 3)
    return mixing, (1 - contrast) * gain, shading


def change_colours(views: Tensor, mixing: Tensor, contrast: Tensor, shading: Tensor) -> Tensor:
    """Change colour and illumination of views (N, 3, h, w) in [0, 1]; the result is clamped to [0, 1].

    A pixel v at (x, y) in [-1, 1]^2 becomes (mixing v + contrast m) (1 + shading . (x, y)), with m the view's mean.
    """
    height, width = views.shape[2:]
    pixels = views.flatten(2)
    mixed = torch.baddbmm(contrast[:, :, None] * pixels.mean(dim=(1, 2))[:, None, None], mixing, pixels)
    x, y = (torch.linspace(-1, 1, length, device=views.device) for length in (width, height))
    light = 1 + shading[:, 0, None, None] * x + shading[:, 1, None, None] * y[:, None]
    return (mixed.view_as(views) * light[:, None]).clamp_(0, 1)


def corresponding_points(
    first: Tensor, second: Tensor, size: int, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw points of the first view that the second shows, too, and their positions there: two (count, 2) float64.

    ``first`` and ``second`` are homographies from view to photograph. Views that share little give repeated points.
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
