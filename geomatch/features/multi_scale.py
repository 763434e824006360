"""Features extracted at several scales: large for where an object's parts lie, small for their context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.features.base import FeatureExtractor


class MultiScaleFeatures(FeatureExtractor):
    """The descriptors of several extractors, concatenated, each read bilinearly at the cells of the first one.

    The cosine of two such descriptors is the mean of the extractors' cosines; sigma is the mean of their sigmas.
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
