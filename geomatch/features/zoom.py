"""Zoom: a second, larger look at the part of an image that shows an object (ours).

A small object has few cells, and objects are matched better the more alike they are in size. A linear classifier tells
the cells of objects from those of their surroundings, whatever the object. It has learnt that from image labels alone;
`geomatch.training.objects.foreground` trains it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor, nn

from geomatch.annotations import Box
from geomatch.correspondence import FeatureMap
from geomatch.errors import WeightsError
from geomatch.features.base import FeatureExtractor
from geomatch.features.introspection import (
    DistilledFeatures,
    IntrospectionConfig,
    IntrospectionFeatures,
    IntrospectionNet,
)
from geomatch.features.weights import load_network, shipped_sha256
from geomatch.geometry.view import View, part_of

OVERVIEW_SIZE: Final = 192
"""The longer side, in pixels, of the image in which objects are looked for."""

LEAST_PROBABILITY: Final = 0.5
"""Of being an object's, from which on a cell speaks for its box. Chosen on the validation pairs of SPair-71k and
animal-parts, as was `MARGIN`."""

MARGIN: Final = 0.3
"""By which a box is grown on each side, as a share of its longer side: objects are seen with some of what is around."""

LEAST_SIDE: Final = 1 / 8
"""The view's longer side, at least, as a share of the image's: less shows nothing that can be matched."""

LEAST_PIXELS: Final = 64
"""The same in pixels."""

LARGEST_SHARE: Final = 0.8
"""Of the image. A larger box would gain little, so all of the image is looked at."""


@dataclass(frozen=True)
class ForegroundConfig:
    """The descriptors that are read: their size, and the SHA-256 of the distilled weights that make them."""

    descriptor_size: int = 256
    reads: str = ""


class Foreground(nn.Module):
    """Descriptors (B, C, h, w) of unit length to the log-odds (B, 1, h, w) that a cell shows an object: w phi + b."""

    def __init__(self, config: ForegroundConfig) -> None:
        super().__init__()
        self.config = config
        self.score = nn.Conv2d(config.descriptor_size, 1, 1)

    def forward(self, descriptors: Tensor) -> Tensor:
        return self.score(descriptors)  # type: ignore[no-any-return]


def object_box(probability: Tensor) -> tuple[int, int, int, int] | None:
    """The box of whole cells, left, top, right, bottom, that holds the most evidence; None if no cell has any.

    A cell's evidence is its probability (h, w) less LEAST_PROBABILITY, so it can speak against a box, too. Of boxes
    with the same evidence, the first in the order of top, bottom, right and left.
    """
    height, width = probability.shape
    sums = torch.zeros(height + 1, width + 1, dtype=torch.float64)
    sums[1:, 1:] = (probability.cpu().double() - LEAST_PROBABILITY).cumsum(0).cumsum(1)
    top, bottom = torch.triu_indices(height, height, device="cpu")
    rows = sums[bottom + 1] - sums[top]  # (P, w + 1): what lies left of each edge, in each interval of rows
    least, place = rows.cummin(dim=1)
    best = int((rows - least).flatten().argmax())
    interval, right = divmod(best, width + 1)
    left = int(place[interval, right])
    return (left, int(top[interval]), right, int(bottom[interval]) + 1) if left < right else None


def found_box(overview: FeatureMap, probability: Tensor) -> Box | None:
    """The box of an image's object, in pixels; None if nothing speaks for one.

    probability: (h, w), of the overview's cells, that they show an object.
    """
    cells = object_box(probability)
    if cells is None:
        return None
    (x, y), (across, down) = overview.grid.origin, overview.grid.pitch
    left, right = (x + (edge - 0.5) * across for edge in (cells[0], cells[2]))
    top, bottom = (y + (edge - 0.5) * down for edge in (cells[1], cells[3]))
    return left, top, right, bottom


def view_around(box: Box, image_size: tuple[int, int]) -> View | None:
    """The view of the object in a box: MARGIN around it, whole pixels; None: look at all of the image."""
    (left, top, right, bottom), (height, width) = box, image_size
    side = max(right - left, bottom - top)
    margin = max(MARGIN * side, (max(LEAST_SIDE * max(height, width), LEAST_PIXELS) - side) / 2)
    view = (
        max(0, math.floor(left - margin + 0.5)) - 0.5,
        max(0, math.floor(top - margin + 0.5)) - 0.5,
        min(width, math.ceil(right + margin + 0.5)) - 0.5,
        min(height, math.ceil(bottom + margin + 0.5)) - 0.5,
    )
    share = (view[2] - view[0]) * (view[3] - view[1]) / (width * height)
    return view if share < LARGEST_SHARE else None


class ZoomedFeatures(FeatureExtractor):
    """Another extractor's features of the object alone, with an overview of all of the image.

    The overview is of distilled features, which the classifier reads. Maps are in pixels of the whole image.

    classifier: the SHA-256 of the classifier's weights.
    """

    def __init__(
        self, detail: FeatureExtractor, overview: FeatureExtractor, foreground: Foreground, classifier: str
    ) -> None:
        self.detail, self.overview = detail, overview
        self.foreground, self.classifier = foreground.eval(), classifier
        self.inner = (detail, overview)
        self.name, self.working_size = detail.name, detail.working_size
        self.weights_sha256 = f"{detail.weights_sha256}+{classifier}" if detail.weights_sha256 else classifier
        self.precision, self.arithmetic = detail.precision, detail.arithmetic
        self.calibration, self.by_class, self.fine = detail.calibration, detail.by_class, detail.fine

    def for_class(self, name: str) -> FeatureExtractor:
        return ZoomedFeatures(self.detail.for_class(name), self.overview, self.foreground, self.classifier)

    def __call__(self, image: Tensor) -> FeatureMap:
        return self.extract_batch([image])[0]

    @torch.no_grad()
    def extract_batch(self, images: Sequence[Tensor]) -> list[FeatureMap]:
        overviews = self.overview.extract_batch(images)
        return self.look_closer(images, overviews, [self.find_view(each) for each in overviews])

    def look_closer(
        self, images: Sequence[Tensor], overviews: Sequence[FeatureMap], views: Sequence[View | None]
    ) -> list[FeatureMap]:
        """The features of images (3, H, W) uint8 in these views, with their overviews."""
        parts = [
            image if view is None else part_of(image, view).contiguous()
            for image, view in zip(images, views, strict=True)
        ]
        return [
            replace(_placed(detail, view, overview.image_size), overview=overview)
            for detail, view, overview in zip(self.detail.extract_batch(parts), views, overviews, strict=True)
        ]

    @torch.no_grad()
    def probability(self, overview: FeatureMap) -> Tensor:
        """Of each cell (h, w) of an overview, that it shows an object."""
        return torch.sigmoid(self.foreground(overview.descriptors[None])[0, 0])

    def find_view(self, overview: FeatureMap) -> View | None:
        """Where an image's object is, given its overview; None: look at all of the image."""
        box = found_box(overview, self.probability(overview))
        return None if box is None else view_around(box, overview.image_size)


def _placed(features: FeatureMap, view: View | None, image_size: tuple[int, int]) -> FeatureMap:
    """The features of a part of an image, in pixels of the whole image."""
    if view is None:
        return features
    x, y = view[0] + 0.5, view[1] + 0.5
    fine = features.fine and replace(features.fine, grid=features.fine.grid.shifted(x, y))
    return replace(features, grid=features.grid.shifted(x, y), image_size=image_size, fine=fine, view=view)


def zoom_in(
    extractor: FeatureExtractor, device: torch.device, kept: Callable[[FeatureExtractor], FeatureExtractor]
) -> ZoomedFeatures:
    """An extractor that looks at objects, by the shipped classifier and the shipped distilled network.

    kept: makes an extractor one whose features are kept from one call to the next, or leaves it as it is.

    Raises WeightsError if the shipped weights cannot be used, or do not belong together.
    """
    try:
        foreground, classifier = load_network(None, "foreground", ForegroundConfig, Foreground, device)
        network, sha256 = _distilled_network_of(extractor) or load_network(
            None, DistilledFeatures.name, IntrospectionConfig, IntrospectionNet, device
        )
    except WeightsError as error:
        raise WeightsError(f"{error}, or use --zoom off") from error
    if foreground.config.reads != sha256:
        raise WeightsError(
            f"the shipped foreground weights read other distilled weights ({foreground.config.reads[:8]}) than the "
            f"shipped ones ({sha256[:8]}); reinstall geomatch, or use --zoom off"
        )
    overview = DistilledFeatures(network, OVERVIEW_SIZE, sha256)
    overview.compute_in(extractor.arithmetic)
    if not extractor.fine:
        overview.leave_out_fine_maps()
    return ZoomedFeatures(kept(extractor), kept(overview), foreground, classifier)


def _distilled_network_of(extractor: FeatureExtractor) -> tuple[IntrospectionNet, str] | None:
    """The shipped distilled network that an extractor has already, and the SHA-256 of its weights."""
    shipped = shipped_sha256(DistilledFeatures.name)
    for each in (extractor, *extractor.inner):
        if shipped and isinstance(each, IntrospectionFeatures) and each.weights_sha256 == shipped:
            return each.network, shipped
    return None
