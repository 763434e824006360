"""Both learners side by side: what is stable under a warp, and what is the same part of any object of its kind.

Ours. Introspection's phi tells places apart that look alike to the anchors, and the anchors know parts that phi does
not; both stand on one trunk, which looks at an image once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.errors import WeightsError
from geomatch.features.anchornet import AnchorNet
from geomatch.features.base import FeatureExtractor, lay_out
from geomatch.features.introspection import IntrospectionNet
from geomatch.geometry.grid import read_cells


class CombinedFeatures(FeatureExtractor):
    """phi and AnchorNet's class-agnostic code, both of unit length, one behind the other, on AnchorNet's grid.

    A cosine of two such descriptors is the mean of their two cosines; sigma is introspection's, read there.
    """

    def __init__(
        self, introspection: IntrospectionNet, anchors: AnchorNet, working_size: int, weights_sha256: str | None = None
    ) -> None:
        """Raises WeightsError unless both stand on the same trunk."""
        ours, theirs = (network.trunk.state_dict() for network in (introspection, anchors))
        if ours.keys() != theirs.keys() or any(not torch.equal(ours[name], theirs[name]) for name in ours):
            raise WeightsError(
                "the weights of anchornet and introspection have different trunks: they cannot be combined"
            )
        self.name = "combined"
        self.introspection = introspection.eval()
        self.anchors = anchors.eval()
        self.working_size = working_size
        self.weights_sha256 = weights_sha256

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> FeatureMap:
        trunk, config = self.introspection.trunk, self.anchors.config
        canvas, pixels = lay_out(image, trunk, self.working_size)
        taps = trunk(pixels, sorted({self.introspection.config.stage, *config.stages}))
        stride = self.introspection.stride
        grid = canvas.grid(config.stride)
        cells = canvas.grid(stride).to_cells(grid.centres(pixels.device)) + canvas.first_cell(stride)
        phi, sigma = (
            read_cells(maps, cells[None])[0].reshape(-1, *grid.shape) for maps in self.introspection.heads(taps)
        )
        responses = canvas.crop(F.softplus(self.anchors.activations(taps, pixels)), config.stride)
        code = self.anchors.descriptors(responses, None)[0]
        both = torch.cat((F.normalize(phi, dim=0), code))
        return FeatureMap(F.normalize(both, dim=0), canvas.image_size, grid, sigma[0].contiguous())
