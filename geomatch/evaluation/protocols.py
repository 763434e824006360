"""Protocols: the choices in which public evaluations of keypoint matching differ, and the protocols by name.

The frame is that of the *score*: predictions are made once, in the pixels of the images, and predicted and true
positions are then scaled to the frame of the protocol. (The authors' code also resizes the network's input to that
frame; here, input size belongs to the features.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from geomatch.datasets.pairs import AnnotatedPair
from geomatch.errors import InputError, did_you_mean
from geomatch.evaluation.metrics.pck import box_side, keypoint_extent
from geomatch.evaluation.metrics.tracks import TRACK_THRESHOLDS
from geomatch.evaluation.prediction import Prediction
from geomatch.registry import PROTOCOLS


class Direction(StrEnum):
    """Which keypoints are mapped to the other image; errors are measured in that image."""

    source_to_target = "source to target"
    target_to_source = "target to source"


class Side(StrEnum):
    """The image that the threshold length is taken from."""

    source = "source"
    target = "target"


class Length(StrEnum):
    """What the threshold length is the longer side of, in the frame of the score."""

    image = "image"
    object_box = "object box"
    keypoint_extent = "keypoint extent"
    """Of all keypoints of the image, also those that the other image lacks."""


class Boundary(StrEnum):
    """Whether an error equal to the threshold is correct."""

    included = "<="
    excluded = "<"


class Reading(StrEnum):
    """Where the flow of a keypoint is read: at the keypoint itself, or at the pixel nearest to it."""

    exact = "exact keypoint"
    rounded = "rounded keypoint"


class Average(StrEnum):
    """What has equal weight in the mean: pairs, keypoints, or classes (the mean of its pairs or keypoints)."""

    per_image = "per-image"
    per_point = "per-point"
    per_class = "per-class"
    per_class_pooled = "per-class-pooled"


class FrameKind(StrEnum):
    """How an image is scaled to the frame of the score."""

    original = "original pixels"
    at_most = "longer side at most"
    longer_side = "longer side"
    square = "squashed to a square of"


@dataclass(frozen=True)
class Frame:
    """The pixels that errors are measured in. side: in pixels, 0 for original pixels."""

    kind: FrameKind = FrameKind.original
    side: int = 0

    def scale(self, image_size: tuple[int, int]) -> NDArray[np.float64]:
        """Factors (x, y) from pixels of an image (height, width) to pixels of the frame."""
        height, width = image_size
        match self.kind:
            case FrameKind.original:
                return np.ones(2)
            case FrameKind.at_most:
                return np.full(2, min(1.0, self.side / max(height, width)))
            case FrameKind.longer_side:
                return np.full(2, self.side / max(height, width))
            case FrameKind.square:
                return np.array([self.side / width, self.side / height])

    def __str__(self) -> str:
        return f"{self.kind} {self.side}" if self.side else str(self.kind)


@dataclass(frozen=True)
class Protocol:
    """How predictions are scored against keypoints.

    length, length_of: what the threshold length L is measured on, and in which image.
    direction, reading: which keypoints are mapped, and where their flow is read.
    frame, boundary: the pixels that errors are measured in, and whether an error of alpha L is correct.
    averages, alphas: the means and thresholds that are reported.
    """

    name: str
    length: Length
    length_of: Side = Side.target
    direction: Direction = Direction.source_to_target
    frame: Frame = Frame()
    boundary: Boundary = Boundary.included
    reading: Reading = Reading.exact
    averages: tuple[Average, ...] = (Average.per_image,)
    alphas: tuple[float, ...] = (0.05, 0.10, 0.15)

    def errors(self, pair: AnnotatedPair, prediction: Prediction) -> NDArray[np.float64]:
        """Distances (K,) of predicted from true positions, in pixels of the frame."""
        if self.direction is Direction.target_to_source:
            assert prediction.backward is not None, "PredictionOptions.backward is needed"
            predicted, truth, size = prediction.backward, pair.source_points, prediction.source_size
        else:
            predicted = prediction.forward if self.reading is Reading.exact else prediction.rounded
            truth, size = pair.target_points, prediction.target_size
        return np.asarray(np.linalg.norm((predicted - truth) * self.frame.scale(size), axis=1))

    def threshold_length(self, pair: AnnotatedPair, prediction: Prediction) -> float:
        """The length L of this pair, in pixels of the frame. Raises InputError if it needs a box and there is none."""
        if self.length_of is Side.source:
            size, points, box = prediction.source_size, pair.in_source, pair.source_box
        else:
            size, points, box = prediction.target_size, pair.in_target, pair.target_box
        scale = self.frame.scale(size)
        match self.length:
            case Length.image:
                return float((scale * size[::-1]).max())
            case Length.keypoint_extent:
                return keypoint_extent(points * scale)
            case Length.object_box:
                if box is None:
                    raise InputError(f"{pair.origin}: protocol {self.name} needs an object box, but the pair has none")
                return box_side(box, scale)

    def correct(self, pair: AnnotatedPair, prediction: Prediction, alpha: float) -> NDArray[np.bool_]:
        """Which keypoints (K,) are correct: error <= (or <) alpha L."""
        errors, threshold = self.errors(pair, prediction), alpha * self.threshold_length(pair, prediction)
        return errors <= threshold if self.boundary is Boundary.included else errors < threshold

    def meaning(self) -> str:
        """The protocol as a sentence for tables and reports."""
        alphas = (
            "" if self.alphas == (0.05, 0.10, 0.15) else f"; alpha {', '.join(f'{each:g}' for each in self.alphas)}"
        )
        return (
            f"{self.direction}, {self.reading}, {self.frame}; "
            f"error {self.boundary} alpha x longer side of the {self.length_of}'s {self.length}; "
            f"{' and '.join(self.averages)}{alphas}"
        )


DEFAULT = "geomatch"
EVERY = "all"
_IMAGE_AND_POINT = (Average.per_image, Average.per_point)
_BACKWARD = Direction.target_to_source


def _squashed(side: int) -> Frame:
    return Frame(FrameKind.square, side)


_PF = Protocol(
    "pf", Length.keypoint_extent, boundary=Boundary.excluded, reading=Reading.rounded, averages=(Average.per_class,)
)
_PF_PASCAL = (
    Protocol(DEFAULT, Length.image),
    _PF,
    replace(_PF, name="scnet", length=Length.image, frame=_squashed(224), averages=(Average.per_image,)),
    Protocol("ncnet", Length.image, Side.source, _BACKWARD, _squashed(224)),
    Protocol("hpf", Length.image, frame=Frame(FrameKind.at_most, 300)),
    Protocol("dhpf", Length.image, frame=_squashed(240)),
    Protocol("cats", Length.image, Side.source, _BACKWARD, _squashed(256)),
    Protocol(
        "geoaware",
        Length.image,
        frame=Frame(FrameKind.longer_side, 840),
        boundary=Boundary.excluded,
        averages=_IMAGE_AND_POINT,
    ),
)
_PF_WILLOW = (
    Protocol(DEFAULT, Length.keypoint_extent),
    _PF,
    replace(_PF, name="scnet", averages=(Average.per_image,)),
    # CNNGeo, WeakAlign and NCNet scale the points of PF-PASCAL to a square, but not those of PF-WILLOW.
    Protocol("ncnet", Length.keypoint_extent, Side.source, _BACKWARD),
    Protocol("hpf", Length.keypoint_extent, frame=Frame(FrameKind.at_most, 300)),
    Protocol("dhpf", Length.keypoint_extent, frame=_squashed(240)),
    Protocol("cats", Length.keypoint_extent, Side.source, _BACKWARD, _squashed(256)),
)
_SPAIR = (
    Protocol(DEFAULT, Length.object_box, averages=_IMAGE_AND_POINT),
    Protocol("hpf", Length.object_box, frame=Frame(FrameKind.at_most, 300)),
    Protocol("dhpf", Length.object_box, frame=_squashed(240)),
    Protocol("cats", Length.object_box, Side.source, _BACKWARD, _squashed(256)),
    Protocol("dift", Length.object_box, averages=_IMAGE_AND_POINT),
    Protocol(
        "geoaware",
        Length.object_box,
        frame=Frame(FrameKind.longer_side, 840),
        boundary=Boundary.excluded,
        averages=_IMAGE_AND_POINT,
        alphas=(0.01, 0.05, 0.10),
    ),
)
_AP_10K = (replace(_SPAIR[0], alphas=(0.01, 0.05, 0.10)), _SPAIR[-1])
_CUB_200 = (
    Protocol(DEFAULT, Length.image, averages=_IMAGE_AND_POINT),
    Protocol(
        "asic",
        Length.image,
        frame=_squashed(256),
        boundary=Boundary.excluded,
        averages=(Average.per_point,),
        alphas=(0.01, 0.05, 0.10),
    ),
)
_TAP_VID = (
    Protocol(DEFAULT, Length.image, averages=_IMAGE_AND_POINT, alphas=(0.01, 0.05, 0.10)),
    Protocol(
        "tapvid",
        Length.image,
        frame=_squashed(256),
        boundary=Boundary.excluded,
        averages=(Average.per_class_pooled,),
        alphas=tuple(threshold / 256 for threshold in TRACK_THRESHOLDS),
    ),
)
_PROTOCOLS: Mapping[str, tuple[Protocol, ...]] = {
    "pf-pascal": _PF_PASCAL,
    "pf-willow": _PF_WILLOW,
    "spair-71k": _SPAIR,
    "spair-u": _SPAIR,
    "animal-parts": _SPAIR,
    "ap-10k": _AP_10K,
    "ap-10k-cross-species": _AP_10K,
    "ap-10k-cross-family": _AP_10K,
    "cub-200": _CUB_200,
    "tap-vid-davis": _TAP_VID,
    "pascal-parts": (Protocol(DEFAULT, Length.image),),
    "pascal-parts-across": (Protocol(DEFAULT, Length.image),),
    "warps": (Protocol(DEFAULT, Length.image, averages=_IMAGE_AND_POINT, alphas=(0.01, 0.05, 0.10)),),
    # No keypoints; the length decides which matches of a known flow are correct.
    "tss": (Protocol(DEFAULT, Length.image),),
    "caltech-101": (Protocol(DEFAULT, Length.image),),
}


def find_protocols(dataset: str, names: Sequence[str]) -> list[Protocol]:
    """The protocols of a benchmark by name, in the order of ``names``, without repetition; EVERY stands for all.

    Raises InputError for an unknown name, or a protocol that the benchmark does not have.

    >>> [protocol.averages for protocol in find_protocols("pf-willow", ["geomatch", "pf"])]
    [(<Average.per_image: 'per-image'>,), (<Average.per_class: 'per-class'>,)]
    """
    known = {protocol.name: protocol for protocol in _PROTOCOLS[dataset]}
    chosen = dict.fromkeys(each for name in names for each in (known if name == EVERY else (name,)))
    for name in chosen:
        if PROTOCOLS.canonical(name) not in known:
            hint = did_you_mean(name, known)
            raise InputError(f"{dataset} has no protocol '{name}'{hint}; choose from {', '.join(known)}")
    return [known[name] for name in chosen]


def default_protocol(dataset: str) -> Protocol:
    """The protocol ``geomatch`` of a benchmark."""
    return find_protocols(dataset, [DEFAULT])[0]
