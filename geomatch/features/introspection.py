"""Probabilistic Introspection (Novotny, Albanie, Larlus, Vedaldi, CVPR 2018, arXiv 1804.01552): the network.

Two 1x1 heads on a trunk: phi, a descriptor of unit length, and sigma, its inverse confidence, which grows with the
error that the network expects of its own matches at a cell. `geomatch.training.introspection` trains them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomatch.correspondence import FeatureMap
from geomatch.errors import InputError
from geomatch.features.backbones.resnet import build_trunk
from geomatch.features.base import FeatureExtractor, check_no_argument, draw_on_canvas
from geomatch.features.weights import load_network


@dataclass(frozen=True)
class IntrospectionConfig:
    """The settings of an introspection network.

    The paper leaves sigma's activation open. Ours is smooth and bounded, floor + (ceiling - floor) sigmoid(z): the
    likelihood has no finite optimum for a match whose loss is above one half, and a clamp would stop its gradient.
    """

    trunk: str = "resnet50v2"
    stage: int = 3
    descriptor_size: int = 256
    sigma_floor: float = 0.05
    sigma_ceiling: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_floor < self.sigma_ceiling:
            raise InputError(f"sigma cannot lie between {self.sigma_floor:g} and {self.sigma_ceiling:g}")


class IntrospectionNet(nn.Module):
    """Images (B, 3, H, W) in [0, 1] to phi (B, C, h, w) of unit length and sigma (B, 1, h, w) > 0."""

    def __init__(self, config: IntrospectionConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = build_trunk(config.trunk, dilated=True)
        self.trunk.check_stages(config.trunk, [config.stage])
        channels = self.trunk.channels[config.stage]
        if config.descriptor_size > channels:
            raise InputError(f"stage {config.stage} has {channels} channels: descriptors cannot be longer than that")
        self.descriptor = nn.Conv2d(channels, config.descriptor_size, 1)
        self.sigma = nn.Conv2d(channels, 1, 1)
        # At first sigma is the same everywhere, about 0.28.
        with torch.no_grad():
            self.sigma.weight.zero_()
            self.sigma.bias.fill_(-2.0)  # type: ignore[union-attr]

    @property
    def stride(self) -> int:
        return self.trunk.strides[self.config.stage]

    def columns(self, images: Tensor) -> Tensor:
        """The input of the heads: the trunk's features (B, C, h, w), of root mean square 1 at every cell."""
        return self._columns_of(self.trunk(images, [self.config.stage]))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.heads(self.trunk(images, [self.config.stage]))

    def heads(self, taps: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
        """The same as `forward`, from stages that the trunk has computed already."""
        x = self._columns_of(taps)
        low, high = self.config.sigma_floor, self.config.sigma_ceiling
        sigma = low + (high - low) * torch.sigmoid(self.sigma(x).float())
        return F.normalize(self.descriptor(x).float(), dim=1), sigma

    def _columns_of(self, taps: Mapping[int, Tensor]) -> Tensor:
        x = taps[self.config.stage].float()
        return F.normalize(x, dim=1) * math.sqrt(x.shape[1])


class IntrospectionFeatures(FeatureExtractor):
    """phi as the descriptor, sigma as the inverse confidence."""

    def __init__(self, network: IntrospectionNet, working_size: int, weights_sha256: str | None = None) -> None:
        self.name = "introspection"
        self.network = network.eval()
        self.working_size = working_size
        self.weights_sha256 = weights_sha256

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> FeatureMap:
        canvas, pixels = draw_on_canvas(image, self.network.trunk, self.working_size)
        stride = self.network.stride
        phi, sigma = (canvas.crop(maps[0], stride) for maps in self.network(pixels))
        grid, sigma = canvas.grid(stride), sigma[0].contiguous()
        return FeatureMap(phi.contiguous(), canvas.image_size, grid, sigma, self.calibration)


def load(argument: str, working_size: int, device: torch.device, weights: Path | None) -> IntrospectionFeatures:
    check_no_argument("introspection", argument)
    network, sha256 = load_network(weights, "introspection", IntrospectionConfig, IntrospectionNet, device)
    return IntrospectionFeatures(network, working_size, sha256)
