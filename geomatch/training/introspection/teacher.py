"""The frozen teacher, whose similarities between cells training is to keep. Ours, not the paper's.

Two views of one photograph teach "this spot of this car" and unlearn "this part of any car". So a loss keeps the
network close to the teacher's similarities between all cells of a batch. The teacher is the initial trunk and, if
given, an ImageNet classifier, which knows more about categories and less about positions, or a vision transformer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomatch.features.backbones.base import Trunk, parse_stage
from geomatch.features.backbones.mobilenet import load_mobilenet
from geomatch.features.backbones.vit import load_vit
from geomatch.features.introspection import IntrospectionNet
from geomatch.features.weights import read_tensors
from geomatch.geometry.grid import read_cells
from geomatch.io.inputs import Input
from geomatch.training.introspection.recipe import IntrospectionRecipe
from geomatch.training.letterbox import Letterbox


class TeacherPart(nn.Module):
    """Stages of a frozen trunk: images, and positions on them, to descriptors, each stage's of its own length.

    weights: the length of the descriptors by stage.
    """

    def __init__(self, trunk: Trunk, weights: Mapping[Any, float]) -> None:
        super().__init__()
        self.trunk, self.weights = trunk, dict(weights)
        self.mean: Tensor = nn.Buffer(torch.zeros(sum(trunk.channels[stage] for stage in weights)))

    def fit_mean(self, examples: Sequence[Letterbox]) -> None:
        """Take the mean that features are centred with over the cells that lie on photographs."""
        sums = {stage: torch.zeros(self.trunk.channels[stage], device=self.mean.device) for stage in self.weights}
        counts = dict.fromkeys(self.weights, 0)
        for example in examples:
            for stage, features in self._taps(example.image).items():
                shown = example.cells(self.trunk.strides[stage], self.trunk.offsets[stage])[1]
                sums[stage] += features[0].flatten(1)[:, shown].sum(dim=1)
                counts[stage] += int(shown.sum())
        self.mean = torch.cat([sums[stage] / counts[stage] for stage in self.weights])

    def forward(self, images: Tensor, positions: Tensor) -> Tensor:
        """Descriptors (B, C, N) at pixels (B, N, 2) of images (B, 3, H, W) in [0, 1]."""
        taps = self._taps(images)
        sizes = [self.trunk.channels[stage] for stage in self.weights]
        means: tuple[Tensor, ...] = self.mean.split(sizes)  # type: ignore[no-untyped-call]
        parts = []
        for (stage, weight), mean in zip(self.weights.items(), means, strict=True):
            columns = F.normalize(read_cells(taps[stage], self.trunk.to_cells(stage, positions)), dim=1)
            parts.append(weight * F.normalize(columns - mean[:, None], dim=1))
        return torch.cat(parts, dim=1)

    @torch.no_grad()
    def _taps(self, images: Tensor) -> dict[Any, Tensor]:
        """Features (B, C, h, w) of images by stage, float32, of unit length in every cell."""
        taps = self.trunk(images, list(self.weights))
        return {stage: F.normalize(taps[stage].float(), dim=1) for stage in self.weights}


class Teacher(nn.Module):
    """Frozen trunks: images, and positions on them, to descriptors of unit length.

    Each stage is centred with its mean over the cells of ``examples``.
    """

    def __init__(self, parts: Sequence[TeacherPart], examples: Sequence[Letterbox]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.norm = math.hypot(*(weight for part in parts for weight in part.weights.values()))
        self.eval().requires_grad_(False)
        for part in parts:
            part.fit_mean(examples)

    def forward(self, images: Tensor, positions: Tensor) -> Tensor:
        """Descriptors (B, N, C) at pixels (B, N, 2) of images (B, 3, H, W) in [0, 1]."""
        return torch.cat([part(images, positions) for part in self.parts], dim=1).mT / self.norm


def build_teacher(
    network: IntrospectionNet, others: Sequence[Input], recipe: IntrospectionRecipe, examples: Sequence[Letterbox]
) -> Teacher:
    """The teacher of a recipe: a copy of the initial trunk, and published networks from their files."""
    first, *further = network.stages
    weights = {first: 1.0} | dict.fromkeys(further, recipe.teacher_weight)
    parts = [TeacherPart(deepcopy(network.trunk), weights)]
    for source in others:
        trunk, stages = _load_teacher(source, recipe)
        trunk.check_stages(str(source), stages)
        parts.append(TeacherPart(trunk, dict.fromkeys(stages, recipe.teacher_weight)))
    device = network.descriptor.weight.device
    return Teacher([part.to(device) for part in parts], examples).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _load_teacher(source: Input, recipe: IntrospectionRecipe) -> tuple[Trunk, list[int | str]]:
    """A published network, and the stages that it teaches."""
    state = read_tensors(source)[0]
    if "patch_embed.proj.weight" in state:
        return load_vit(state, str(source)), [parse_stage(stage) for stage in recipe.transformer_stages]
    return load_mobilenet(state, str(source)), [recipe.classifier_block]
