"""The frozen teacher, whose similarities between cells training is to keep. Ours, not the paper's.

Two views of one photograph teach "this spot of this car" and unlearn "this part of any car". So a loss keeps the
network close to the teacher's similarities between all cells of a batch. The teacher is the initial trunk and, if
given, a block of an ImageNet classifier, which knows more about categories and less about positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomatch.features.backbones.base import Trunk
from geomatch.features.backbones.mobilenet import load_mobilenet
from geomatch.features.weights import read_safetensors
from geomatch.geometry.grid import read_cells
from geomatch.training.introspection.recipe import IntrospectionRecipe
from geomatch.training.letterbox import Letterbox


class TeacherPart(nn.Module):
    """One stage of a frozen trunk: images, and positions on them, to descriptors of length ``weight``."""

    def __init__(self, trunk: Trunk, stage: int, weight: float) -> None:
        super().__init__()
        self.trunk, self.stage, self.stride, self.weight = trunk, stage, trunk.strides[stage], weight
        self.mean: Tensor = nn.Buffer(torch.zeros(trunk.channels[stage]))

    def fit_mean(self, examples: Sequence[Letterbox]) -> None:
        """Take the mean that features are centred with over the cells that lie on photographs."""
        columns = [self._features(each.image)[0].flatten(1)[:, each.cells(self.stride)[1]] for each in examples]
        self.mean = torch.cat(columns, dim=1).mean(dim=1)

    def forward(self, images: Tensor, positions: Tensor) -> Tensor:
        """Descriptors (B, C, N) at pixels (B, N, 2) of images (B, 3, H, W) in [0, 1]."""
        columns = F.normalize(read_cells(self._features(images), positions / self.stride), dim=1)
        return self.weight * F.normalize(columns - self.mean[:, None], dim=1)

    @torch.no_grad()
    def _features(self, images: Tensor) -> Tensor:
        """Features (B, C, h, w) of images, float32, of unit length in every cell."""
        features: Tensor = self.trunk(images, [self.stage])[self.stage]
        return F.normalize(features.float(), dim=1)


class Teacher(nn.Module):
    """Frozen trunks, one stage of each: images, and positions on them, to descriptors of unit length.

    Each part is centred with its mean over the cells of ``examples``.
    """

    def __init__(self, parts: Sequence[TeacherPart], examples: Sequence[Letterbox]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.norm = math.hypot(*(part.weight for part in parts))
        self.eval().requires_grad_(False)
        for part in parts:
            part.fit_mean(examples)

    def forward(self, images: Tensor, positions: Tensor) -> Tensor:
        """Descriptors (B, N, C) at pixels (B, N, 2) of images (B, 3, H, W) in [0, 1]."""
        return torch.cat([part(images, positions) for part in self.parts], dim=1).mT / self.norm


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
