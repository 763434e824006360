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
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomatch.features.backbones.base import Trunk
from geomatch.geometry.grid import read_cells
from geomatch.training.letterbox import WholeView


@dataclass(frozen=True)
class Opinion:
    """One stage of a trunk, as a part of what the teacher says; parts are of unit length before they are weighted."""

    trunk: Trunk
    stage: int
    weight: float


class Teacher(nn.Module):
    """Frozen trunks read at one stage each: images, and places on them, to descriptors of unit length.

    Of every part its mean over the cells of ``examples`` is taken away, which says nothing of the place.
    """

    def __init__(self, opinions: Sequence[Opinion], examples: Sequence[WholeView]) -> None:
        super().__init__()
        self.trunks = nn.ModuleList(opinion.trunk for opinion in opinions)
        self.stages = [opinion.stage for opinion in opinions]
        self.weights = [opinion.weight for opinion in opinions]
        self.means = nn.ParameterList()
        self.eval().requires_grad_(False)
        seen = [self._on_photograph(example) for example in examples]
        for part in zip(*seen, strict=True):
            self.means.append(nn.Parameter(torch.cat(part, dim=1).mean(dim=1), requires_grad=False))

    def forward(self, images: Tensor, places: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] and pixels (B, N, 2) of them to descriptors (B, N, C)."""
        said = []
        for index, part in enumerate(self._parts(images)):
            column = F.normalize(read_cells(part, places / self._stride(index)), dim=1) - self.means[index][:, None]
            said.append(self.weights[index] * F.normalize(column, dim=1))
        return torch.cat(said, dim=1).mT / math.hypot(*self.weights)

    def _stride(self, index: int) -> int:
        return cast("Trunk", self.trunks[index]).strides[self.stages[index]]

    def _on_photograph(self, example: WholeView) -> list[Tensor]:
        """What each trunk makes of the cells (C, N) that lie on a photograph, of unit length each."""
        parts = enumerate(self._parts(example.image))
        return [part[0].flatten(1)[:, example.cells(self._stride(index))[1]] for index, part in parts]

    @torch.no_grad()
    def _parts(self, images: Tensor) -> list[Tensor]:
        """What each trunk makes of images, (B, C, h, w) float32, of unit length everywhere."""
        return [
            F.normalize(trunk(images, [stage])[stage].float(), dim=1)
            for trunk, stage in zip(self.trunks, self.stages, strict=True)
        ]
