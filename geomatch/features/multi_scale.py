"""Features extracted at several scales: large for where an object's parts lie, small for their context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.errors import InputError
from geomatch.features.base import FeatureExtractor


class MultiScaleFeatures(FeatureExtractor):
    """The descriptors of several extractors, concatenated, each read bilinearly at the cells of the first one.

    The cosine of two such descriptors is the mean of the extractors' cosines; sigma is the mean of their sigmas.
    """

    def __init__(self, name: str, extractors: Sequence[FeatureExtractor]) -> None:
        self.name = name
        self.inner = tuple(extractors)
        for other in extractors[1:]:
            other.leave_out_fine_maps()  # the first one's is the finest
        self.working_size = extractors[0].working_size
        self.weights_sha256, self.calibration = extractors[0].weights_sha256, extractors[0].calibration

    def __call__(self, image: Tensor) -> FeatureMap:
        return self.extract_batch([image])[0]

    def extract_batch(self, images: Sequence[Tensor]) -> list[FeatureMap]:
        scales = [each.extract_batch(images) for each in self.inner]
        return [self._join(*maps) for maps in zip(*scales, strict=True)]

    def _join(self, first: FeatureMap, *others: FeatureMap) -> FeatureMap:
        maps = [first, *(other.read_on(first.grid) for other in others)]
        sigmas = [each.inverse_confidence for each in maps if each.inverse_confidence is not None]
        return replace(
            first,
            descriptors=torch.cat([each.descriptors for each in maps]) / len(maps) ** 0.5,
            inverse_confidence=torch.stack(sigmas).mean(dim=0) if sigmas else None,
        )


def at_scales(
    name: str, argument: str, working_size: int, extractor: Callable[[int], FeatureExtractor]
) -> FeatureExtractor:
    """An extractor at the scales of an argument such as ``1+0.8``, shares of the working size; "" is one scale.

    extractor: makes one for a working size. Raises InputError for another argument.
    """
    if not argument:
        return extractor(working_size)
    try:
        shares = sorted((float(share) for share in argument.split("+")), reverse=True)
    except ValueError:
        shares = []
    if not shares or not all(0.1 <= share <= 1 for share in shares):
        raise InputError(
            f"{name}:{argument}: give shares of the working size, from 0.1 to 1, joined by '+', as {name}:1+0.8"
        )
    return MultiScaleFeatures(f"{name}:{argument}", [extractor(round(share * working_size)) for share in shares])
