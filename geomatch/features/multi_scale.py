"""An image described at several sizes: large for where a thing's parts lie, small for what they are parts of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.features.base import FeatureExtractor


class MultiScaleFeatures(FeatureExtractor):
    """Descriptors of several extractors, one behind the other, each read bilinearly at the cells of the first.

    A cosine of two such descriptors is the mean of the extractors' cosines, and sigma the mean of their sigmas.
    """

    def __init__(self, name: str, extractors: Sequence[FeatureExtractor]) -> None:
        self.name = name
        self.extractors = tuple(extractors)
        self.working_size = extractors[0].working_size
        self.weights_sha256, self.calibration = extractors[0].weights_sha256, extractors[0].calibration

    def __call__(self, image: Tensor) -> FeatureMap:
        first, *others = (extract(image) for extract in self.extractors)
        maps = [first, *(other.read_on(first.grid) for other in others)]
        sigmas = [each.inverse_confidence for each in maps if each.inverse_confidence is not None]
        return replace(
            first,
            descriptors=torch.cat([each.descriptors for each in maps]) / len(maps) ** 0.5,
            inverse_confidence=torch.stack(sigmas).mean(dim=0) if sigmas else None,
        )
