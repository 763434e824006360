"""Probabilistic Introspection (Novotny, Albanie, Larlus, Vedaldi, CVPR 2018, arXiv 1804.01552): the network.

Two 1x1 heads on one or several stages of a trunk: phi, a descriptor of unit length, and sigma, its inverse confidence,
which grows with the error that the network expects of its own matches at a cell. `geomatch.training.introspection`
trains them; `geomatch.training.keypoints` trains them on, and may let phi hear the cells around.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomatch.correspondence import ConfidenceModel, CueWeights, FeatureMap
from geomatch.errors import InputError
from geomatch.features.backbones.base import parse_stage
from geomatch.features.backbones.build import build_trunk
from geomatch.features.base import FeatureExtractor, read_trunk
from geomatch.features.fine_map import fine_map, with_fine_stage
from geomatch.features.multi_scale import at_scales
from geomatch.features.weights import load_network
from geomatch.geometry.canvas import Canvas
from geomatch.geometry.grid import read_cells
from geomatch.geometry.homography import pixel_grid
from geomatch.io.inputs import Input


@dataclass(frozen=True)
class IntrospectionConfig:
    """The settings of an introspection network.

    stages: of the trunk, which the heads read at the cells of the finest one. The paper has one, the last.
    context: channels of `Context`, which descriptors hear the cells around by; 0, as in the paper: none.

    The paper leaves sigma's activation open. Ours is smooth and bounded, floor + (ceiling - floor) sigmoid(z): the
    likelihood has no finite optimum for a match whose loss is above one half, and a clamp would stop its gradient.
    """

    trunk: str = "resnet50v2"
    stages: tuple[str, ...] = ("3",)
    descriptor_size: int = 256
    context: int = 0
    sigma_floor: float = 0.05
    sigma_ceiling: float = 2.0

    def __post_init__(self) -> None:
        if not self.stages:
            raise InputError("introspection needs at least one stage of its trunk")
        if not 0 < self.sigma_floor < self.sigma_ceiling:
            raise InputError(f"sigma cannot lie between {self.sigma_floor:g} and {self.sigma_ceiling:g}")


class Context(nn.Sequential):
    """What the cells around add to descriptors: (B, C, h, w) to (B, D, h, w), at first nothing.

    A bottleneck of 5 x 5 cells, as the aggregation network of GeoAware-SC (Zhang et al., CVPR 2024) has on frozen
    features.
    """

    def __init__(self, channels: int, width: int, descriptor_size: int) -> None:
        last = nn.Conv2d(width, descriptor_size, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        around = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        layers = [layer for each in (nn.Conv2d(channels, width, 1), *around) for layer in (each, nn.GELU())]
        super().__init__(*layers, last)


class IntrospectionHeads(nn.Module):
    """Columns (B, channels, h, w) to phi (B, C, h, w) of unit length and sigma (B, 1, h, w) > 0."""

    def __init__(self, channels: int, config: IntrospectionConfig) -> None:
        super().__init__()
        self.config = config
        self.descriptor = nn.Conv2d(channels, config.descriptor_size, 1)
        self.sigma = nn.Conv2d(channels, 1, 1)
        self.context = Context(channels, config.context, config.descriptor_size) if config.context else None
        # At first sigma is the same everywhere, about 0.28.
        with torch.no_grad():
            self.sigma.weight.zero_()
            self.sigma.bias.fill_(-2.0)  # type: ignore[union-attr]

    def first_layers(self) -> list[nn.Conv2d]:
        """The 1x1 convolutions that read the columns."""
        context = [] if self.context is None else [self.context[0]]
        return [self.descriptor, self.sigma, *context]  # type: ignore[list-item]

    def forward(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        return self.read(columns)

    def read(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self.config.sigma_floor, self.config.sigma_ceiling
        sigma = low + (high - low) * torch.sigmoid(self.sigma(columns).float())
        phi = self.descriptor(columns).float()
        if self.context is not None:
            phi = phi + self.context(columns).float()
        return F.normalize(phi, dim=1), sigma


class IntrospectionNet(IntrospectionHeads):
    """Images (B, 3, H, W) in [0, 1] to phi (B, C, h, w) of unit length and sigma (B, 1, h, w) > 0."""

    def __init__(self, config: IntrospectionConfig) -> None:
        stages = tuple(map(parse_stage, config.stages))
        trunk = build_trunk(config.trunk, stages, dilated=True)
        channels = sum(trunk.channels[stage] for stage in stages)
        if config.descriptor_size > channels:
            read = "stage " + config.stages[0] if len(stages) == 1 else "stages " + "+".join(config.stages)
            raise InputError(f"{read} has {channels} channels: descriptors cannot be longer than that")
        super().__init__(channels, config)
        self.stages, self.trunk = stages, trunk
        self._finest = min(stages, key=trunk.strides.__getitem__)

    @property
    def stride(self) -> int:
        """Input pixels from one cell to the next."""
        return self.trunk.strides[self._finest]

    @property
    def offset(self) -> float:
        """The input pixel that cell 0 is centred on, along either axis."""
        return self.trunk.offsets[self._finest]

    def columns(self, images: Tensor) -> Tensor:
        """The input of the heads: the stages (B, C, h, w), each of root mean square 1 at every cell."""
        return self._columns_of(self.trunk(images, self.stages))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.heads(self.trunk(images, self.stages))

    def heads(self, taps: Mapping[int | str, Tensor]) -> tuple[Tensor, Tensor]:
        """The same as `forward`, from stages that the trunk has computed already."""
        return self.read(self._columns_of(taps))

    def _columns_of(self, taps: Mapping[int | str, Tensor]) -> Tensor:
        columns = [self._on_finest(stage, taps) for stage in self.stages]
        return torch.cat([F.normalize(x, dim=1) * math.sqrt(x.shape[1]) for x in columns], dim=1)

    def _on_finest(self, stage: int | str, taps: Mapping[int | str, Tensor]) -> Tensor:
        """A stage (B, C, h, w) float32, read bilinearly at the cells of the finest one."""
        values, shape = taps[stage].float(), taps[self._finest].shape[2:]
        if self.trunk.strides[stage] == self.stride and self.trunk.offsets[stage] == self.offset:
            return values
        pixels = self.offset + self.stride * pixel_grid(shape[0], shape[1], values)
        cells = self.trunk.to_cells(stage, pixels).expand(len(values), -1, -1)
        return read_cells(values, cells).unflatten(2, shape)  # type: ignore[no-any-return, no-untyped-call]


class IntrospectionFeatures(FeatureExtractor):
    """phi as the descriptor, sigma as the inverse confidence."""

    name = "introspection"

    def __init__(self, network: IntrospectionNet, working_size: int, weights_sha256: str | None = None) -> None:
        self.network = network.eval()
        self.working_size = working_size
        self.weights_sha256 = weights_sha256

    def __call__(self, image: Tensor) -> FeatureMap:
        return self.extract_batch([image])[0]

    @torch.no_grad()
    def extract_batch(self, images: Sequence[Tensor]) -> list[FeatureMap]:
        trunk = self.network.trunk
        stages = with_fine_stage(trunk, self.network.stages, fine=self.fine)
        return [
            replace(
                self.describe(each.canvas, each.taps),
                fine=fine_map(each.canvas, trunk, each.taps) if self.fine else None,
            )
            for each in read_trunk(images, trunk, stages, self.working_size, self.arithmetic)
        ]

    def describe(self, canvas: Canvas, taps: Mapping[int | str, Tensor]) -> FeatureMap:
        """Descriptors and sigma, without a fine map, from stages that the trunk has computed already."""
        lattice = self.network.stride, self.network.offset
        phi, sigma = (canvas.crop(maps[0], *lattice).contiguous() for maps in self.network.heads(taps))
        return FeatureMap(phi, canvas.image_size, canvas.grid(*lattice), sigma[0], self.calibration)


class KeypointFeatures(IntrospectionFeatures):
    """The same of a network that `geomatch train keypoints` has trained further."""

    name = "keypoints"
    calibration = ConfidenceModel(
        alone=CueWeights(1.475, 0.01, 2.807, 2.44, 0.515, -3.157),
        in_pair=CueWeights(1.538, 0.010, 2.692, 2.340, 0.494, -4.453),
        consistency=2.776,
        extent=1.944,
    )


class DistilledFeatures(IntrospectionFeatures):
    """The same of a network that `geomatch train distilled` has trained further; constants in a pair of its own."""

    name = "distilled"
    calibration = ConfidenceModel(
        in_pair=CueWeights(5.405, 0.254, 3.369, 1.682, 0.491, -7.803),
        consistency=3.776,
        extent=6.306,
        cells=0.543,
    )


PHI_FEATURES: Final = (IntrospectionFeatures.name, KeypointFeatures.name, DistilledFeatures.name)
"""Those whose weights are of an `IntrospectionNet`."""


def load(argument: str, working_size: int, device: torch.device, weights: Input | None) -> FeatureExtractor:
    return _load(IntrospectionFeatures, argument, working_size, device, weights)


def load_keypoints(argument: str, working_size: int, device: torch.device, weights: Input | None) -> FeatureExtractor:
    return _load(KeypointFeatures, argument, working_size, device, weights)


def load_distilled(argument: str, working_size: int, device: torch.device, weights: Input | None) -> FeatureExtractor:
    return _load(DistilledFeatures, argument, working_size, device, weights)


def _load(
    features: type[IntrospectionFeatures],
    argument: str,
    working_size: int,
    device: torch.device,
    weights: Input | None,
) -> FeatureExtractor:
    network, sha256 = load_network(weights, features.name, IntrospectionConfig, IntrospectionNet, device)
    return at_scales(features.name, argument, working_size, lambda size: features(network, size, sha256))
