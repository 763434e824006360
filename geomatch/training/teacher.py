"""What the initial networks make of a photograph: the similarities that training is to keep.

Ours, not the paper's. Two views of one photograph teach "this spot of this car" and unlearn "this part of any car". So
the network is held to the similarities, between all cells of a batch and so across photographs too, of a frozen
teacher: the trunk training starts from and, where one is given, a block of an ImageNet classifier, which knows more of
kinds of things and less of places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomatch.features.resnet import Trunk
from geomatch.views import homography_between, square_corners


@dataclass(frozen=True)
class Opinion:
    """One stage of a trunk, as a part of what the teacher says; parts are of unit length before they are weighted."""

    trunk: Trunk
    stage: int
    weight: float


class Teacher(nn.Module):
    """Frozen trunks read at one stage each: images (B, 3, H, W) in [0, 1] -> (B, C, h, w) of unit length.

    All stages must have one stride. Of every part its mean over ``examples`` is taken away, which says nothing of the
    place.
    """

    def __init__(self, opinions: Sequence[Opinion], examples: Sequence[Tensor]) -> None:
        """examples: batches (B, 3, H, W) of images like those it will see."""
        super().__init__()
        self.trunks = nn.ModuleList(opinion.trunk for opinion in opinions)
        self.stages = [opinion.stage for opinion in opinions]
        self.weights = [opinion.weight for opinion in opinions]
        strides = {opinion.trunk.strides[opinion.stage] for opinion in opinions}
        if len(strides) != 1:
            raise ValueError(f"the stages that teach must have one stride, not {sorted(strides)}")
        self.stride = strides.pop()
        self.eval().requires_grad_(False)
        parts = zip(*(self._parts(images) for images in examples), strict=True)
        self.means = nn.ParameterList(
            nn.Parameter(
                torch.cat([p.transpose(0, 1).flatten(1) for p in part], dim=1).mean(dim=1), requires_grad=False
            )
            for part in parts
        )

    def forward(self, images: Tensor) -> Tensor:
        parts = [
            weight * F.normalize(part - mean[:, None, None], dim=1)
            for part, mean, weight in zip(self._parts(images), self.means, self.weights, strict=True)
        ]
        return torch.cat(parts, dim=1) / math.hypot(*self.weights)

    @torch.no_grad()
    def _parts(self, images: Tensor) -> list[Tensor]:
        return [
            F.normalize(trunk(images, [stage])[stage].float(), dim=1)
            for trunk, stage in zip(self.trunks, self.stages, strict=True)
        ]


def whole_view(photograph_size: tuple[int, int], size: int) -> Tensor:
    """The homography (3, 3) float64 from a ``size`` x ``size`` view to a photograph, which it shows whole, unsquashed."""
    height, width = photograph_size
    margin = torch.tensor([width - max(height, width), height - max(height, width)], dtype=torch.float64) / 2
    corners = (square_corners(size) + 0.5) * (max(height, width) / size) - 0.5 + margin
    return homography_between(square_corners(size), corners)


def inside(points: Tensor, size: tuple[int, int]) -> Tensor:
    """Which pixels (N, 2) lie on an image of ``size`` (height, width): (N,) bool."""
    height, width = size
    return ((points >= -0.5) & (points <= points.new_tensor([width - 0.5, height - 0.5]))).all(dim=1)
