"""Distilled phi and AnchorNet's code in one descriptor (ours).

phi is stable under a warp, and separates places that look alike to the anchors. Anchors fire on the same part of every
object of a class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.correspondence import ConfidenceModel, CueWeights, FeatureMap
from geomatch.errors import InputError
from geomatch.features.anchornet import AnchorConfig, AnchorFeatures, AnchorNet
from geomatch.features.base import FeatureExtractor, TrunkReading, read_trunk
from geomatch.features.fine_map import with_fine_stage
from geomatch.features.introspection import DistilledFeatures, IntrospectionConfig, IntrospectionNet
from geomatch.features.multi_scale import at_scales
from geomatch.features.weights import load_network
from geomatch.io.inputs import Input


class CombinedFeatures(FeatureExtractor):
    """phi and AnchorNet's class-agnostic code, both of unit length, concatenated on AnchorNet's grid.

    The cosine of two such descriptors is the mean of the two cosines. sigma is that of phi, read on that grid.
    """

    calibration = ConfidenceModel(
        alone=CueWeights(5.495, 0.427, 2.396, 2.645, 0.594, -5.102),
        in_pair=CueWeights(6.567, 0.435, 3.223, 1.907, 0.444, -6.827),
        consistency=2.334,
        extent=3.568,
        cells=0.243,
    )

    def __init__(
        self, distilled: IntrospectionNet, anchors: AnchorNet, working_size: int, weights_sha256: str | None = None
    ) -> None:
        self.name = "combined"
        first = weights_sha256.partition("+")[0] if weights_sha256 else None
        self.distilled = DistilledFeatures(distilled, working_size, first)
        self.distilled.leave_out_fine_maps()  # the anchors' serve both
        self.anchors = AnchorFeatures(anchors, working_size)
        self.inner = (self.distilled, self.anchors)
        self.one_trunk = same_trunk(distilled, anchors)
        self.working_size = working_size
        self.weights_sha256 = weights_sha256

    def __call__(self, image: Tensor) -> FeatureMap:
        return self.extract_batch([image])[0]

    @torch.no_grad()
    def extract_batch(self, images: Sequence[Tensor]) -> list[FeatureMap]:
        if self.one_trunk:
            return list(map(self._describe, self._read_once(images)))
        codes, phis = (each.extract_batch(images) for each in (self.anchors, self.distilled))
        return list(map(self._join, codes, phis))

    def _read_once(self, images: Sequence[Tensor]) -> list[TrunkReading]:
        """Images read by the trunk of both networks at the stages of both."""
        trunk = self.anchors.network.trunk
        stages = (*self.anchors.network.stages, *self.distilled.network.stages)
        wanted = with_fine_stage(trunk, stages, fine=self.fine)
        return read_trunk(images, trunk, wanted, self.working_size, self.arithmetic)

    def _describe(self, reading: TrunkReading) -> FeatureMap:
        code = self.anchors.describe(self.anchors.respond_to(reading))
        return self._join(code, self.distilled.describe(reading.canvas, reading.taps))

    def _join(self, code: FeatureMap, phi: FeatureMap) -> FeatureMap:
        phi = phi.read_on(code.grid)
        both = F.normalize(torch.cat((phi.descriptors, code.descriptors)), dim=0)
        return replace(code, descriptors=both, inverse_confidence=phi.inverse_confidence, calibration=self.calibration)


def same_trunk(distilled: IntrospectionNet, anchors: AnchorNet) -> bool:
    """Whether both networks read the same trunk: both may be learnt on that of introspection, and leave it so."""
    one, other = distilled.trunk.state_dict(), anchors.trunk.state_dict()
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def load(argument: str, working_size: int, device: torch.device, weights: Input | None) -> FeatureExtractor:
    if weights is not None:
        raise InputError(f"combined features need two weights files, the shipped ones; leave out --weights {weights}")
    distilled, first = load_network(None, DistilledFeatures.name, IntrospectionConfig, IntrospectionNet, device)
    anchors, second = load_network(None, "anchornet", AnchorConfig, AnchorNet, device)

    def extractor(size: int) -> FeatureExtractor:
        return CombinedFeatures(distilled, anchors, size, f"{first}+{second}")

    return at_scales("combined", argument, working_size, extractor)
