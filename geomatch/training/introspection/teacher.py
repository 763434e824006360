"""The frozen teacher, whose similarities between cells training is to keep. Ours, not the paper's.

Two views of one photograph teach "this spot of this car" and unlearn "this part of any car". So a loss keeps the
network close to the teacher's similarities between all cells of a batch. The teacher is the initial network and, if
given, others: an ImageNet classifier, which knows more about categories and less about positions, a vision transformer,
or weights that geomatch has trained before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomatch.features.anchornet import AnchorConfig, AnchorNet
from geomatch.features.backbones.base import Trunk, parse_stage
from geomatch.features.backbones.mobilenet import load_mobilenet
from geomatch.features.backbones.vit import load_vit
from geomatch.features.introspection import IntrospectionConfig, IntrospectionNet
from geomatch.features.weights import FORMAT, features_of, load_network, read_tensors
from geomatch.geometry.grid import read_cells, rescale_position
from geomatch.io.inputs import Input
from geomatch.training.introspection.recipe import IntrospectionRecipe
from geomatch.training.letterbox import CPU, Letterbox


class TrunkTeacher(nn.Module):
    """Stages of a frozen trunk: images, and positions on them, to descriptors, each stage's of its own length.

    weights: the length of the descriptors by stage. length: that of all together.
    """

    def __init__(self, trunk: Trunk, weights: Mapping[Any, float]) -> None:
        super().__init__()
        self.trunk, self.weights = trunk, dict(weights)
        self.length = math.hypot(*weights.values())
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


class TrainedTeacher(nn.Module):
    """A frozen network of geomatch's: images, and positions on them, to its descriptors, made ``length`` long."""

    def __init__(self, network: IntrospectionNet | AnchorNet, length: float) -> None:
        super().__init__()
        self.network, self.length = network, length

    def fit_mean(self, examples: Sequence[Letterbox]) -> None:
        """Nothing: its descriptors are centred already."""

    @torch.no_grad()
    def forward(self, images: Tensor, positions: Tensor) -> Tensor:
        """Descriptors (B, C, N) at pixels (B, N, 2) of images (B, 3, H, W) in [0, 1]."""
        network = self.network
        if isinstance(network, AnchorNet):
            maps = network.descriptors(F.softplus(network(images)), None)
            stride, offset = network.config.stride, 0.0
        else:
            maps, stride, offset = network(images)[0], network.stride, network.offset
        return self.length * F.normalize(read_cells(maps, (positions - offset) / stride), dim=1)


class Teacher(nn.Module):
    """Frozen networks: images, and positions on them, to descriptors of unit length.

    shares: of the size of the images, at which the networks see them, too; the similarity of two cells is the mean of
    those at all sizes. Each stage of a trunk is centred with its mean over the cells of ``examples``.
    """

    def __init__(
        self,
        parts: Sequence[TrunkTeacher | TrainedTeacher],
        examples: Sequence[Letterbox],
        shares: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__()
        self.parts, self.shares = nn.ModuleList(parts), tuple(shares)
        self.length = math.sqrt(len(shares)) * math.hypot(*(part.length for part in parts))
        self.eval().requires_grad_(False)
        for part in parts:
            part.fit_mean(examples)

    def forward(self, images: Tensor, positions: Tensor) -> Tensor:
        """Descriptors (B, N, C) at pixels (B, N, 2) of images (B, 3, H, W) in [0, 1]."""
        found = []
        for share in self.shares:
            scaled = _scaled(images, share)
            moved = rescale_position(positions, images.shape[-1], scaled.shape[-1])
            found += [part(scaled, moved) for part in self.parts]
        return torch.cat(found, dim=1).mT / self.length


def _scaled(images: Tensor, share: float) -> Tensor:
    """Square images (B, 3, T, T) at a share of their size."""
    side = round(share * images.shape[-1])
    if side == images.shape[-1]:
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def build_teacher(
    network: IntrospectionNet,
    others: Sequence[Input],
    recipe: IntrospectionRecipe,
    examples: Sequence[Letterbox],
    *,
    trained: bool,
) -> Teacher:
    """The teacher of a recipe: a copy of the initial network, and others from their files.

    trained: whether the heads of the network have been trained; else its trunk alone teaches.
    """
    first, *further = network.stages
    weights = {first: 1.0} | dict.fromkeys(further, recipe.teacher_weight)
    own = TrainedTeacher(deepcopy(network), 1.0) if trained else TrunkTeacher(deepcopy(network.trunk), weights)
    parts = [own, *(_load_teacher(source, recipe) for source in others)]
    device = network.descriptor.weight.device
    teacher = Teacher([part.to(device) for part in parts], examples, recipe.teacher_shares)
    return teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _load_teacher(source: Input, recipe: IntrospectionRecipe) -> TrunkTeacher | TrainedTeacher:
    """A teacher from the file of a published network, or of weights that geomatch has trained."""
    state, about = read_tensors(source)
    if about.get("format") == FORMAT:
        return TrainedTeacher(_load_trained(source), recipe.teacher_weight)
    trunk: Trunk
    stages: list[int | str]
    if "patch_embed.proj.weight" in state:
        trunk, stages = load_vit(state, str(source)), [parse_stage(stage) for stage in recipe.transformer_stages]
    else:
        trunk, stages = load_mobilenet(state, str(source)), [recipe.classifier_block]
    trunk.check_stages(str(source), stages)
    return TrunkTeacher(trunk, dict.fromkeys(stages, recipe.teacher_weight))


def _load_trained(source: Input) -> IntrospectionNet | AnchorNet:
    if features_of(source) == "anchornet":
        return load_network(source, "anchornet", AnchorConfig, AnchorNet, CPU)[0]
    return load_network(source, "introspection", IntrospectionConfig, IntrospectionNet, CPU)[0]
