"""Annotations of a reference image transferred to another image by matching.

Keypoints follow the flow from the reference to the image. Masks and boxes use the flow from the image to the reference:
each pixel of the image looks up what the reference has at its match, so that a mask has no holes where flow diverges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from geomatch.annotations import AnnotatedImage, Box, Instance, Keypoints, Region, Visibility
from geomatch.correspondence import Correspondence, FeatureMap
from geomatch.options import AnnotationKind, Mirror
from geomatch.pipeline import Pipeline

LOW_CONFIDENCE = 0.3
"""Pixels are left out of a mask if their confidence is below this share of the mean over it."""
BOX_TAIL = 0.02
"""Share of the weight at each end of an axis that does not count for where a box's sides are."""
MAX_SAMPLES = 250_000
"""About how many pixels, at most, a box is fitted to."""


@dataclass(frozen=True)
class Transferred:
    """What was found on an image, and the references that it was chosen to be found by, the most similar first.

    references: none where there is only one.
    """

    instances: Sequence[Instance]
    references: Sequence[AnnotatedImage] = ()


def transfer_keypoints(
    instances: Sequence[Instance], forward: Correspondence, min_confidence: float = 0.0
) -> list[Instance]:
    """Instances marked by `Keypoints` on the source of ``forward``, transferred to its target.

    A point keeps its visibility if its match is valid; otherwise it is guessed. It is absent if it lies outside the
    target or its confidence is below ``min_confidence``. Instances that have no points left are dropped.
    """
    found = (_transfer_points(instance, forward, min_confidence) for instance in instances)
    return [instance for instance in found if instance is not None]


def transfer_regions(
    instances: Sequence[Instance], backward: Correspondence, min_confidence: float = 0.0
) -> list[Instance]:
    """Instances marked by a `Region` or a box on the target of ``backward``, transferred to its source.

    The confidence of an instance is the mean over its pixels: those of the mask, or those matched to the box's inside.
    An instance is guessed if fewer than half of its pixels have a valid match. It is dropped if it has no pixels, or if
    its confidence is below ``min_confidence``.
    """
    flow, confidence, valid = (each.cpu().numpy() for each in (backward.flow, backward.confidence, backward.valid))
    found = []
    for instance in instances:
        shape = instance.shape
        if isinstance(shape, Region):
            matched = clean_mask(backward.warp_mask(shape.mask), confidence, count_pieces(shape.mask))
            shape = replace(shape, mask=matched)
        else:
            assert not isinstance(shape, Keypoints), "keypoints need the flow from the reference"
            matched = match_box(shape, flow)
            shape = fit_box(shape, flow, confidence, matched) if matched.any() else shape
        if not matched.any() or confidence[matched].mean() < min_confidence:
            continue
        visibility = Visibility.seen if valid[matched].mean() >= 0.5 else Visibility.guessed
        mean = round(float(confidence[matched].mean()), 4)
        found.append(replace(instance, shape=shape, visibility=visibility, confidence=mean))
    return found


def _transfer_points(instance: Instance, forward: Correspondence, min_confidence: float) -> Instance | None:
    assert isinstance(instance.shape, Keypoints), "masks and boxes need the flow to the reference"
    mapped = forward.map_points(instance.shape.points)
    height, width = forward.target_size
    inside = ((mapped.positions >= -0.5) & (mapped.positions <= (width - 0.5, height - 0.5))).all(axis=1)
    here = instance.shape.present & inside & (mapped.confidence >= min_confidence)
    visibility = np.where(mapped.valid, instance.shape.visibility, Visibility.guessed) * here
    if not here.any():
        return None
    return replace(
        instance,
        shape=Keypoints(instance.shape.names, mapped.positions, visibility, mapped.confidence * here),
        visibility=Visibility(int(visibility.max())),
        confidence=round(float(mapped.confidence[here].mean()), 4),
    )


def count_pieces(mask: NDArray[np.bool_]) -> int:
    """How many connected pieces a mask (H, W) has."""
    return int(ndimage.label(mask)[1])


def clean_mask(mask: NDArray[np.bool_], confidence: NDArray[np.float32], most_pieces: int) -> NDArray[np.bool_]:
    """A mask (H, W) without pixels of `LOW_CONFIDENCE`, and with at most ``most_pieces`` connected pieces: those whose
    confidence adds up to the most."""
    if not mask.any():
        return mask
    confident = mask & (confidence >= LOW_CONFIDENCE * confidence[mask].mean())
    pieces, count = ndimage.label(confident)
    weight = ndimage.sum_labels(confidence, pieces, np.arange(1, count + 1))
    heaviest = np.argsort(-weight, kind="stable")[:most_pieces] + 1
    return np.isin(pieces, heaviest)


def match_box(box: Box, flow: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The pixels (H, W) whose match lies in a box of the reference."""
    left, top, right, bottom = box
    height, width = flow.shape[1:]
    row, column = np.ogrid[:height, :width]
    x, y = column + flow[0], row + flow[1]
    return np.asarray((left <= x) & (x <= right) & (top <= y) & (y <= bottom))


def fit_box(box: Box, flow: NDArray[np.float32], confidence: NDArray[np.float32], matched: NDArray[np.bool_]) -> Box:
    """The box on an image, given the reference's ``box`` and the pixels (H, W) of the image that are ``matched`` to it.

    Per axis, two ranges are measured between weighted quantiles (`BOX_TAIL`), each pixel weighing its confidence
    squared: that of the pixels' positions and that of their matches. The map that takes the second range to the first
    takes the reference's box to the image's. The result is cut at the image's border.
    """
    height, width = confidence.shape
    pixels = np.flatnonzero(matched)
    pixels = pixels[:: 1 + len(pixels) // MAX_SAMPLES]
    weight = confidence.ravel()[pixels].astype(np.float64) ** 2 + 1e-12
    sides = []
    for axis, length, low, high in ((0, width, box[0], box[2]), (1, height, box[1], box[3])):
        here = (pixels % width if axis == 0 else pixels // width).astype(np.float64)
        there = here + flow[axis].ravel()[pixels]
        (here_low, here_high), (there_low, there_high) = _inner_range(here, weight), _inner_range(there, weight)
        scale = (here_high - here_low + 1) / (there_high - there_low + 1)
        start, end = here_low - (there_low - low) * scale, here_high + (high - there_high) * scale
        sides.append((max(start, -0.5), min(end, length - 0.5)))
    (left, right), (top, bottom) = sides
    return left, top, right, bottom


def _inner_range(values: NDArray[np.float64], weight: NDArray[np.float64]) -> tuple[float, float]:
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weight[order])
    low, high = np.searchsorted(total, np.array([BOX_TAIL, 1 - BOX_TAIL]) * total[-1])
    return float(values[order[low]]), float(values[order[high]])


@dataclass(frozen=True)
class InstanceTransfer:
    """Finds the instances of a reference image on other images.

    reference: its features. instances: what is marked on it, all of one ``kind``.
    """

    pipeline: Pipeline
    reference: FeatureMap
    instances: Sequence[Instance]
    kind: AnnotationKind
    min_confidence: float = 0.0

    def __call__(self, image: Tensor, mask: Tensor | None = None) -> list[Instance]:
        """The instances found on an image (3, H, W) uint8, within a mask (H, W) bool. Raises OutOfMemoryError."""
        if self.kind is AnnotationKind.keypoints:
            forward = self.pipeline.match(self.reference, self.pipeline.extract(image, Mirror.off).masked(mask))
            return transfer_keypoints(self.instances, forward, self.min_confidence)
        backward = self.pipeline.match(self.pipeline.extract(image).masked(mask), self.reference)
        return transfer_regions(self.instances, backward, self.min_confidence)

    def transferred(self, image: Tensor, _sha256: str | None = None, mask: Tensor | None = None) -> Transferred:
        """The same, as transfers from several references give it; these may have been made of the same file."""
        return Transferred(self(image, mask))
