"""The frozen teacher, whose similarities between cells training is to keep. Ours, not the paper's.

Two views of one photograph teach "this spot of this car" and unlearn "this part of any car". A loss therefore keeps the
network close to the teacher's similarities between all cells of a batch, also of different photographs. The teacher is
the trunk that training starts from and, if one is given, a block of an ImageNet classifier, which knows more about
categories and less about places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomatch.features.backbones.base import Trunk
from geomatch.features.backbones.mobilenet import load_mobilenet
from geomatch.features.weights import read_safetensors
from geomatch.geometry.grid import read_cells
from geomatch.training.introspection.recipe import IntrospectionRecipe
from geomatch.training.letterbox import Letterbox


@dataclass(frozen=True)
class TeacherPart:
    """One stage of a trunk; its features have unit length before they are weighted."""

    trunk: Trunk
    stage: int
    weight: float


class Teacher(nn.Module):
    """Frozen trunks, one stage of each: images, and positions on them, to descriptors of unit length.

    Each part is centred with its mean over the cells of ``examples``.
    """

    def __init__(self, parts: Sequence[TeacherPart], examples: Sequence[Letterbox]) -> None:
        super().__init__()
        self.trunks = nn.ModuleList(part.trunk for part in parts)
        self.stages = [part.stage for part in parts]
        self.weights = [part.weight for part in parts]
        self.means = nn.ParameterList()
        self.eval().requires_grad_(False)
        columns = [self._on_photograph(example) for example in examples]
        for of_part in zip(*columns, strict=True):
            self.means.append(nn.Parameter(torch.cat(of_part, dim=1).mean(dim=1), requires_grad=False))

    def forward(self, images: Tensor, positions: Tensor) -> Tensor:
        """Descriptors (B, N, C) at pixels (B, N, 2) of images (B, 3, H, W) in [0, 1]."""
        weighted = []
        for index, features in enumerate(self._features(images)):
            column = (
                F.normalize(read_cells(features, positions / self._stride(index)), dim=1) - self.means[index][:, None]
            )
            weighted.append(self.weights[index] * F.normalize(column, dim=1))
        return torch.cat(weighted, dim=1).mT / math.hypot(*self.weights)

    def _stride(self, index: int) -> int:
        return cast("Trunk", self.trunks[index]).strides[self.stages[index]]

    def _on_photograph(self, example: Letterbox) -> list[Tensor]:
        """Each trunk's features (C, N) of the cells that lie on the photograph, of unit length."""
        found = enumerate(self._features(example.image))
        return [features[0].flatten(1)[:, example.cells(self._stride(index))[1]] for index, features in found]

    @torch.no_grad()
    def _features(self, images: Tensor) -> list[Tensor]:
        """Each trunk's features (B, C, h, w) of images, float32, of unit length in every cell."""
        return [
            F.normalize(trunk(images, [stage])[stage].float(), dim=1)
            for trunk, stage in zip(self.trunks, self.stages, strict=True)
        ]


def build_teacher(
    trunk: Trunk, classifier: Path | None, recipe: IntrospectionRecipe, examples: Sequence[Letterbox]
) -> Teacher:
    """The teacher of a recipe: the initial trunk, and an ImageNet MobileNet v1 if its file is given."""
    parts = [TeacherPart(trunk, recipe.network.stage, 1.0)]
    if classifier is not None:
        mobilenet = load_mobilenet(read_safetensors(classifier)[0], str(classifier))
        mobilenet = mobilenet.to(next(trunk.parameters()).device)
        parts.append(TeacherPart(mobilenet, recipe.classifier_block, recipe.classifier_weight))
    return Teacher(parts, examples).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
