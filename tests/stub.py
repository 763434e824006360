"""A pipeline whose features are what an image's colours say: two images of one picture match where it is the same."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.features.base import FeatureExtractor
from geomatch.geometry.grid import Grid
from geomatch.matching.matcher import Matcher
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


def stub_pipeline() -> Pipeline:
    return Pipeline(Colours(), replace(Matcher.named("nn"), cells=1), torch.device("cpu"))


def picture(height: int, width: int, left: float = 0, top: float = 0, scale: float = 1) -> Image.Image:
    """Of one large picture what lies from (left, top) on: red grows across, green down."""
    y, x = np.indices((height, width))
    red, green = (left + scale * x) * 255 / 200, (top + scale * y) * 255 / 200
    colours = np.stack((red, green, np.full_like(red, 90)), axis=-1)
    return Image.fromarray(colours.clip(0, 255).round().astype(np.uint8))


def to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
