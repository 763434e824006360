"""Boxes of an image in the frame of Proposal Flow's constants, and features that carry what its matchers read."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Final

import torch
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.errors import InputError
from geomatch.features.scnet import SCNet, SCNetMap
from geomatch.geometry.mask import mostly_inside

IMAGE_SIDE: Final = 300.0
"""Pixels of the longer side of the images that the methods' constants are made for, those of PF-WILLOW."""

_ROUNDING: Final = 1e-4


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RegionFeatures(FeatureMap):
    """Features of an image with what Proposal Flow reads of the image itself; `ProposalFlow.prepare` makes them.

    image: (3, H, W) uint8.
    boxes: (B, 4) float32, left, top, right, bottom in pixels: those that selective search found, if it was asked for.
    box_descriptors: (N, D) float32: HOG of the boxes that are matched, if it was asked for.
    network: SCNet, if its features are these.
    """

    image: Tensor
    boxes: Tensor | None = None
    box_descriptors: Tensor | None = None
    network: SCNet | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, features: FeatureMap, image: Tensor) -> RegionFeatures:
        """Features with their image; if they have it already, themselves."""
        if isinstance(features, RegionFeatures):
            return features
        network = features.network if isinstance(features, SCNetMap) else None
        return cls(
            **{each.name: getattr(features, each.name) for each in fields(FeatureMap)}, image=image, network=network
        )


def require_regions(features: FeatureMap) -> RegionFeatures:
    """The features as `RegionFeatures`. Raises InputError if they were not prepared."""
    if isinstance(features, RegionFeatures):
        return features
    raise missing("the image")


def missing(what: str) -> InputError:
    """The error for features that lack something that only the matcher's own pipeline adds."""
    return InputError(
        f"these features lack {what} for Proposal Flow: extract them with a pipeline that has the same matcher "
        "(one that matches boxes, or a fusion of them) and the same parameters"
    )


@dataclass(frozen=True)
class Regions:
    """Boxes of an image, in its pixels and scaled to IMAGE_SIDE with the image's upper left corner at (0, 0).

    boxes: (N, 4) float32, left, top, right, bottom in pixels of the image.
    corner, size: (N, 2) float32, x then y, scaled: each box's upper left corner, and its width and height.
    span: (width, height) of the scaled image.
    voters: (N, E) float32 of unit length, whose similarities vote in SCNet-AG+; None elsewhere.
    inside: (N,) bool, the boxes that lie mostly in the image's mask; None without a mask.
    """

    boxes: Tensor
    corner: Tensor
    size: Tensor
    span: tuple[float, float]
    voters: Tensor | None = None
    inside: Tensor | None = None

    @classmethod
    def of(cls, boxes: Tensor, image_size: tuple[int, int], mask: Tensor | None = None) -> Regions:
        """From boxes (N, 4) in pixels of an image of (height, width), of which a mask (height, width) is matched."""
        scale = IMAGE_SIDE / max(image_size)
        corner, size = (boxes[:, :2] + 0.5) * scale, (boxes[:, 2:] - boxes[:, :2]) * scale
        inside = None if mask is None else mostly_inside(mask, boxes)
        return cls(boxes, corner, size, (image_size[1] * scale, image_size[0] * scale), inside=inside)

    @property
    def centre(self) -> Tensor:
        return self.corner + self.size / 2

    @property
    def area(self) -> Tensor:
        return self.size.prod(dim=1)

    def may_match(self, other: Regions, most: float = 2.0) -> Tensor:
        """(N, M) bool: the pairs of similar aspect whose boxes both lie mostly in the masks."""
        admissible = self.has_similar_aspect(other, most)
        for inside, axis in ((self.inside, 1), (other.inside, 0)):
            admissible = admissible if inside is None else admissible & inside.unsqueeze(axis)
        return admissible

    def has_similar_aspect(self, other: Regions, most: float = 2.0) -> Tensor:
        """(N, M) bool: whether the ratio of aspects lies in (1 / most, most), up to rounding."""
        first, second = (each.size[:, 0] / each.size[:, 1] for each in (self, other))
        ratio = first[:, None] / second
        return (ratio > (1 + _ROUNDING) / most) & (ratio < most * (1 - _ROUNDING))

    def overlaps(self) -> Tensor:
        """(N, N) bool: which boxes have an area in common; each with itself, too."""
        return (self._common_sides() > 0).all(dim=2)

    def intersection_over_union(self) -> Tensor:
        """(N, N) float32, of all pairs of boxes."""
        common = self._common_sides().clamp(min=0).prod(dim=2)
        return common / (self.area[:, None] + self.area - common)

    def _common_sides(self) -> Tensor:
        """(N, N, 2): width and height that boxes have in common; negative where there is a gap."""
        end = self.corner + self.size
        return torch.minimum(end[:, None], end) - torch.maximum(self.corner[:, None], self.corner)
