"""A pipeline whose features are what an image's colours say: two images of one picture match where it is the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from geomatch.cli.options import PipelineOptions
from geomatch.correspondence import Correspondence, FeatureMap
from geomatch.features.base import FeatureExtractor
from geomatch.features.introspection import IntrospectionConfig, IntrospectionNet
from geomatch.features.scnet import SCNet, SCNetConfig, SCNetMap, Variant
from geomatch.features.weights import save_weights
from geomatch.geometry.grid import Grid
from geomatch.options import DEFAULT_MAX_MEMORY, Mirror, PresetSettings
from geomatch.pipeline import Pipeline

CELL = 4


class Colours(FeatureExtractor):
    """Of each cell of CELL x CELL pixels the mean red and green, each as a point of a quarter circle."""

    name = "colours"
    working_size = 0

    def __call__(self, image: Tensor) -> FeatureMap:
        size = (image.shape[1], image.shape[2])
        grid = Grid.over(size, size[0] // CELL, size[1] // CELL)
        angle = F.adaptive_avg_pool2d(image[:2].float(), grid.shape) / 255 * math.pi / 2
        return FeatureMap(F.normalize(torch.cat((angle.cos(), angle.sin())), dim=0), size, grid)


@cache
def small_scnet(variant: Variant) -> SCNet:
    """SCNet of random weights whose phi has 4 numbers, those of `Colours`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SCNet(SCNetConfig(stages=("1",), descriptor_size=4, bins=3, embedding_size=8, variant=variant)).eval()


class Embedded(Colours):
    """The same, with a network that embeds regions."""

    def __init__(self, variant: Variant = Variant.ag_plus) -> None:
        self.network = small_scnet(variant)

    def complete(self, features: FeatureMap) -> FeatureMap:
        return SCNetMap(
            **{each.name: getattr(features, each.name) for each in fields(FeatureMap)}, network=self.network
        )

    def __call__(self, image: Tensor) -> FeatureMap:
        return self.complete(super().__call__(image))


def stub_pipeline(mirror: Mirror = Mirror.off, features: FeatureExtractor | None = None) -> Pipeline:
    return Pipeline(
        features=features or Colours(), matcher="nn", preset=PresetSettings(cells=1), device="cpu"
    ).with_mirror(mirror)


def match_features(
    name: str,
    source: FeatureMap,
    target: FeatureMap,
    parameters: Mapping[str, object] | None = None,
    *,
    cells: int = 0,
    max_memory: int = DEFAULT_MAX_MEMORY,
    min_confidence: float = 0.0,
) -> Correspondence:
    """What a matcher makes of two feature maps of black images."""
    pipeline = Pipeline(
        features=Colours(),
        matcher=name,
        parameters=parameters,
        preset=PresetSettings(cells=cells),
        device="cpu",
        max_memory=max_memory,
        min_confidence=min_confidence,
    )
    prepared = (
        pipeline.prepare(each, torch.zeros(3, *each.image_size, dtype=torch.uint8)) for each in (source, target)
    )
    return pipeline.match(*prepared)


def picture(height: int, width: int, left: float = 0, top: float = 0, scale: float = 1) -> Image.Image:
    """Of one large picture what lies from (left, top) on: red grows across, green down."""
    y, x = np.indices((height, width))
    red, green = (left + scale * x) * 255 / 200, (top + scale * y) * 255 / 200
    colours = np.stack((red, green, np.full_like(red, 90)), axis=-1)
    return Image.fromarray(colours.clip(0, 255).round().astype(np.uint8))


def save_small_network(path: Path) -> None:
    """Weights of introspection that are read in no time: two stages of an untrained network."""
    torch.manual_seed(0)
    network = IntrospectionNet(IntrospectionConfig(stages=("1",), descriptor_size=16))
    save_weights(path, "introspection", asdict(network.config), network.state_dict())


def to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def build_stub(options: PipelineOptions, _parameters: Mapping[str, object] | None = None) -> Pipeline:
    """What `PipelineOptions.build` would load, with the stub's features and no weights."""
    return Pipeline(
        features=Colours(),
        matcher="nn",
        preset=PresetSettings(cells=1),
        device="cpu",
        min_confidence=options.min_confidence,
        cache=options.cache,
    ).with_mirror(options.mirror)
