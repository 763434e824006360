"""Annotations of a reference image carried to another image by what matches there.

Keypoints go forwards: the flow of the reference is read where they lie. Masks and boxes come backwards: every pixel of
the image asks the reference pixel it matches whose it is, so that what is carried has no holes where the flow spreads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from geomatch.annotations import Box, Keypoints, Points, Region, Thing, Visibility
from geomatch.correspondence import Correspondence, FeatureMap
from geomatch.evaluation.metrics.dense import pull_mask
from geomatch.geometry.grid import read_cells
from geomatch.options import AnnotationKind
from geomatch.pipeline import Pipeline

DOUBT = 0.3
"""Pixels of a mask are left out whose confidence is below this share of the mean over it."""
TAIL = 0.02
"""Share of the weight beyond each side of a box that does not speak for where that side lies."""
SAMPLE = 250_000
"""About as many pixels, at most, are asked where a box lies."""


@dataclass(frozen=True)
class Landing:
    """Where points of one image lie in another.

    positions: (K, 2), pixels of the other. confidence: (K,) in [0, 1]. valid: (K,) bool, see `Correspondence`.
    """

    positions: Points
    confidence: NDArray[np.float64]
    valid: NDArray[np.bool_]


def land(found: Correspondence, points: Points) -> Landing:
    """Where points (K, 2) of the source lie in the target: flow and confidence are read bilinearly, validity at the
    nearest pixel."""
    at = torch.from_numpy(points).to(found.flow.device, torch.float32)
    height, width = found.source_size
    x, y = at.round().long().unbind(dim=1)
    confidence = read_cells(found.confidence[None, None], at[None])[0, 0]
    return Landing(
        found.transfer(at).double().cpu().numpy(),
        confidence.double().clamp(0, 1).cpu().numpy(),
        found.valid[y.clamp(0, height - 1), x.clamp(0, width - 1)].cpu().numpy(),
    )


def carry_keypoints(things: Sequence[Thing], forward: Correspondence, min_confidence: float = 0.0) -> list[Thing]:
    """Things marked by `Keypoints` on the source of ``forward``, on its target.

    A point stays as visible as it was if its match is valid, and is a guess otherwise; it is absent if it lies outside
    the target or its confidence is below ``min_confidence``. Things without a point left are left out.
    """
    carried = (_carry_points(thing, forward, min_confidence) for thing in things)
    return [thing for thing in carried if thing is not None]


def carry_regions(things: Sequence[Thing], backward: Correspondence, min_confidence: float = 0.0) -> list[Thing]:
    """Things marked by a `Region` or a box on the target of ``backward``, on its source.

    Confidence is the mean over the region, of a box over what matches its inside; a thing is a guess if less than half
    of that is matched validly, and left out if nothing matches it or its confidence is below ``min_confidence``.
    """
    flow, confidence, valid = (each.cpu().numpy() for each in (backward.flow, backward.confidence, backward.valid))
    carried = []
    for thing in things:
        shape, matched = _carry_shape(thing.shape, flow, confidence)
        if not matched.any() or confidence[matched].mean() < min_confidence:
            continue
        seen = valid[matched].mean() >= 0.5
        carried.append(
            replace(
                thing,
                shape=shape,
                visibility=Visibility.seen if seen else Visibility.guessed,
                confidence=round(float(confidence[matched].mean()), 4),
            )
        )
    return carried


def _carry_points(thing: Thing, forward: Correspondence, min_confidence: float) -> Thing | None:
    assert isinstance(thing.shape, Keypoints), "it is keypoints that go forwards"
    landing = land(forward, thing.shape.points)
    height, width = forward.target_size
    inside = ((landing.positions >= -0.5) & (landing.positions <= (width - 0.5, height - 0.5))).all(axis=1)
    here = thing.shape.present & inside & (landing.confidence >= min_confidence)
    visibility = np.where(landing.valid, thing.shape.visibility, Visibility.guessed) * here
    if not here.any():
        return None
    return replace(
        thing,
        shape=Keypoints(thing.shape.names, landing.positions, visibility, landing.confidence * here),
        visibility=Visibility(int(visibility.max())),
        confidence=round(float(landing.confidence[here].mean()), 4),
    )


def _carry_shape(
    shape: Keypoints | Region | Box, flow: NDArray[np.float32], confidence: NDArray[np.float32]
) -> tuple[Region | Box, NDArray[np.bool_]]:
    """The shape on the image whose flow to the reference is given, and the image's pixels (H, W) that match it."""
    assert not isinstance(shape, Keypoints), "keypoints go forwards"
    if isinstance(shape, Region):
        mask = pull_region(shape.mask, flow, confidence)
        return replace(shape, mask=mask), mask
    matched = pull_box(shape, flow)
    return fit_box(shape, flow, confidence, matched) if matched.any() else shape, matched


def pull_region(
    mask: NDArray[np.bool_], flow: NDArray[np.float32], confidence: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """The pixels (H, W) whose match lies in a mask (h, w) of the reference, without those in `DOUBT` and in no more
    pieces than the mask has: those that the most confidence speaks for."""
    matched = pull_mask(mask, flow)
    if not matched.any():
        return matched
    sure = matched & (confidence >= DOUBT * confidence[matched].mean())
    pieces, found = ndimage.label(sure)
    weight = ndimage.sum_labels(confidence, pieces, np.arange(1, found + 1))
    heaviest = np.argsort(-weight, kind="stable")[: ndimage.label(mask)[1]] + 1
    return np.isin(pieces, heaviest)


def pull_box(box: Box, flow: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The pixels (H, W) whose match lies in a box of the reference."""
    left, top, right, bottom = box
    height, width = flow.shape[1:]
    row, column = np.ogrid[:height, :width]
    x, y = column + flow[0], row + flow[1]
    return np.asarray((left <= x) & (x <= right) & (top <= y) & (y <= bottom))


def fit_box(box: Box, flow: NDArray[np.float32], confidence: NDArray[np.float32], matched: NDArray[np.bool_]) -> Box:
    """The box of which the ``matched`` pixels (H, W) fill the part that their matches fill of the reference's ``box``.

    That part, here and there, is what lies between quantiles (`TAIL`) of the pixels' positions and of their matches',
    each pixel weighing its confidence squared; what the box goes beyond it is scaled alike. Cut at the border.
    """
    height, width = confidence.shape
    pixels = np.flatnonzero(matched)
    pixels = pixels[:: 1 + len(pixels) // SAMPLE]
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
    low, high = np.searchsorted(total, np.array([TAIL, 1 - TAIL]) * total[-1])
    return float(values[order[low]]), float(values[order[high]])


@dataclass(frozen=True)
class Carrier:
    """A reference image, described once, and what is marked on it, ready to be carried to others."""

    pipeline: Pipeline
    reference: FeatureMap
    things: Sequence[Thing]
    kind: AnnotationKind
    min_confidence: float = 0.0

    def __call__(self, image: Tensor) -> list[Thing]:
        """What is found again on an image (3, H, W) uint8. Raises OutOfMemoryError."""
        described = self.pipeline.extract(image)
        if self.kind is AnnotationKind.keypoints:
            return carry_keypoints(self.things, self.pipeline.match(self.reference, described), self.min_confidence)
        return carry_regions(self.things, self.pipeline.match(described, self.reference), self.min_confidence)
