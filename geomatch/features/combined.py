"""Introspection's phi and AnchorNet's code in one descriptor (ours).

phi is stable under a warp, and separates places that look alike to the anchors. Anchors fire on the same part of every
object of a class. Both networks share one trunk, which is computed once.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.errors import InputError, WeightsError
from geomatch.features.anchornet import AnchorConfig, AnchorNet
from geomatch.features.base import FeatureExtractor, draw_on_canvas
from geomatch.features.introspection import IntrospectionConfig, IntrospectionNet
from geomatch.features.multi_scale import MultiScaleFeatures
from geomatch.features.weights import load_network
from geomatch.geometry.grid import read_cells


class CombinedFeatures(FeatureExtractor):
    """phi and AnchorNet's class-agnostic code, both of unit length, concatenated on AnchorNet's grid.

    The cosine of two such descriptors is the mean of the two cosines. sigma is introspection's, read on that grid.
    """

    def __init__(
        self, introspection: IntrospectionNet, anchors: AnchorNet, working_size: int, weights_sha256: str | None = None
    ) -> None:
        """Raises WeightsError unless both networks have the same trunk."""
        ours, theirs = (network.trunk.state_dict() for network in (introspection, anchors))
        if ours.keys() != theirs.keys() or any(not torch.equal(ours[name], theirs[name]) for name in ours):
            raise WeightsError("anchornet and introspection have different trunks: they cannot be combined")
        self.name = "combined"
        self.introspection = introspection.eval()
        self.anchors = anchors.eval()
        self.working_size = working_size
        self.weights_sha256 = weights_sha256

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> FeatureMap:
        trunk, config = self.introspection.trunk, self.anchors.config
        canvas, pixels = draw_on_canvas(image, trunk, self.working_size)
        taps = trunk(pixels, list(dict.fromkeys((*self.introspection.stages, *config.stages))))
        grid = canvas.grid(config.stride)
        cells = canvas.to_cells(grid.centres(pixels.device), self.introspection.stride, self.introspection.offset)
        phi, sigma = (
            read_cells(maps, cells[None])[0].reshape(-1, *grid.shape) for maps in self.introspection.heads(taps)
        )
        responses = canvas.crop(F.softplus(self.anchors.activations(taps, pixels)), config.stride)
        code = self.anchors.descriptors(responses, None)[0]
        both = F.normalize(torch.cat((F.normalize(phi, dim=0), code)), dim=0)
        return FeatureMap(both, canvas.image_size, grid, sigma[0].contiguous(), self.calibration)


def load(argument: str, working_size: int, device: torch.device, weights: Path | None) -> FeatureExtractor:
    shares = _parse_shares(argument or "1")
    if weights is not None:
        raise InputError(f"combined features need two weights files, the shipped ones; leave out --weights {weights}")
    introspection, first = load_network(None, "introspection", IntrospectionConfig, IntrospectionNet, device)
    anchors, second = load_network(None, "anchornet", AnchorConfig, AnchorNet, device)
    scales = [
        CombinedFeatures(introspection, anchors, round(share * working_size), f"{first}+{second}")
        for share in sorted(shares, reverse=True)
    ]
    return MultiScaleFeatures(f"combined:{argument}", scales) if argument else scales[0]


def _parse_shares(argument: str) -> list[float]:
    """The scales to extract features at, as shares of the working size. Raises InputError."""
    try:
        shares = [float(share) for share in argument.split("+")]
    except ValueError:
        shares = []
    if not shares or not all(0.1 <= share <= 1 for share in shares):
        raise InputError(
            f"combined:{argument}: give shares of the working size, from 0.1 to 1, joined by '+', as combined:1+0.8"
        )
    return shares
