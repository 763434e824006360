"""SCNet (Han et al., ICCV 2017, arXiv 1705.04043): the network. Embeddings of regions, which learn from keypoints.

The cells of a region are pooled to bins x bins maxima, and one layer makes an embedding c of them, of unit length.
`geomatch.matching.proposal_flow.scnet` matches regions by it, `geomatch.training.scnet` trains it.

The paper pools the fourth block of VGG-16. Here phi of an introspection network is pooled, cells of unit length; it
stays what it was, so that SCNet's features have a sigma and serve every other matcher, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomatch.correspondence import FeatureMap
from geomatch.errors import InputError
from geomatch.features.base import FeatureExtractor, check_no_argument
from geomatch.features.introspection import IntrospectionConfig, IntrospectionFeatures, IntrospectionNet
from geomatch.features.weights import load_network
from geomatch.io.inputs import Input


class Embedding(StrEnum):
    """What an embedding of regions says: how they look, or, in SCNet-AG+, for which offset they vote."""

    appearance = "appearance"
    geometry = "geometry"


class Variant(StrEnum):
    """The score that embeddings are learnt for: of SCNet-A, SCNet-AG or SCNet-AG+."""

    a = "a"
    ag = "ag"
    ag_plus = "ag+"


@dataclass(frozen=True)
class SCNetConfig(IntrospectionConfig):
    """The settings of SCNet, besides those of the features that it pools.

    variant: SCNet-AG+ has a second embedding, of geometry. bins: of a region along either axis. embedding_size: numbers
    of an embedding; in the paper 2048.
    """

    variant: Variant = Variant.a
    bins: int = 7
    embedding_size: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bins < 1 or self.embedding_size < 1:
            raise InputError("SCNet needs at least one bin, and an embedding of at least one number")


class SCNet(IntrospectionNet):
    """An introspection network, and layers that embed regions of its phi."""

    config: SCNetConfig

    def __init__(self, config: SCNetConfig) -> None:
        super().__init__(config)
        size = config.bins**2 * config.descriptor_size
        self.appearance = nn.Linear(size, config.embedding_size)
        self.geometry = nn.Linear(size, config.embedding_size) if config.variant == Variant.ag_plus else None
        for layer in self.layers():
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def layers(self) -> list[nn.Linear]:
        """The layers that embed: of appearance, and of geometry if there is one."""
        return [layer for layer in (self.appearance, self.geometry) if layer is not None]

    def embed(self, pooled: Tensor, embedding: Embedding) -> Tensor:
        """Embeddings (B, E) of unit length of B regions.

        pooled: (B, bins * bins * C), maxima of the cells of phi, by row, column, channel.

        Raises InputError if the network does not have this embedding.
        """
        return F.normalize(self.layer(embedding)(pooled), dim=1)

    def layer(self, embedding: Embedding) -> nn.Linear:
        """The layer of an embedding. Raises InputError if the network does not have it."""
        layer = self.appearance if embedding is Embedding.appearance else self.geometry
        if layer is None:
            raise InputError(
                "these weights of scnet have no embedding of geometry, which scnet-ag+ needs: "
                "train it with --set variant=ag+, or match with scnet-a or scnet-ag"
            )
        return layer


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SCNetMap(FeatureMap):
    """phi and sigma of an image, and the network that embeds regions of them."""

    network: SCNet = field(compare=False, repr=False)


class SCNetFeatures(IntrospectionFeatures):
    """phi as the descriptor, sigma as the inverse confidence, and what embeds regions."""

    name = "scnet"

    network: SCNet

    def extract_batch(self, images: Sequence[Tensor]) -> list[FeatureMap]:
        return [self.complete(each) for each in super().extract_batch(images)]

    def complete(self, features: FeatureMap) -> FeatureMap:
        return SCNetMap(
            **{each.name: getattr(features, each.name) for each in fields(FeatureMap)}, network=self.network
        )


def load(argument: str, working_size: int, device: torch.device, weights: Input | None) -> FeatureExtractor:
    check_no_argument("scnet", argument)
    network, sha256 = load_network(weights, "scnet", SCNetConfig, SCNet, device)
    return SCNetFeatures(network, working_size, sha256)
