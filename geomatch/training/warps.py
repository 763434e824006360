"""Two random views of one photograph, with the exact map between them.

As in Probabilistic Introspection (section 4): the photograph is mirrored beyond its borders, *both* views are warped
(one left as it is would teach the network to tell the warped side), and the transforms lean towards zooming in. The
ranges are open in the paper; `geomatch.views.WarpRanges` and `ColourRanges` are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geomatch.geometry import apply_homography


@dataclass(frozen=True)
class ColourRanges:
    """Ranges of the random changes of colour and illumination."""

    brightness: float = 0.25
    contrast: float = 0.25
    saturation: float = 0.3
    tint: float = 0.08  # largest change of each channel's gain
    shading: float = 0.2  # strength of a linear change of brightness across the view
    grey_probability: float = 0.1


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
