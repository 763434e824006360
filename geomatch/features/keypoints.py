"""Features learnt from keypoints: an introspection network that `geomatch train keypoints` has trained further."""

from __future__ import annotations

import torch

from geomatch.features.base import FeatureExtractor
from geomatch.features.introspection import load_introspection
from geomatch.io.inputs import Input


def load(argument: str, working_size: int, device: torch.device, weights: Input | None) -> FeatureExtractor:
    return load_introspection("keypoints", argument, working_size, device, weights)
