"""What a benchmark's number means: the axes on which public evaluations of keypoint transfer differ, and each by name.

The frame is that of the *score*: predictions are made once, in the images' own pixels, and predicted and true positions
are then brought to the protocol's frame. (The authors' code also feeds the network images of that size; that belongs to
the features here.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from geomatch.annotations import Box, Points
from geomatch.datasets.pairs import AnnotatedPair
from geomatch.errors import InputError
from geomatch.evaluation.metrics.pck import box_side, keypoint_extent


class Direction(StrEnum):
    """Which image's keypoints are sent to the other; errors are measured in that other one."""

    source_to_target = "source to target"
    target_to_source = "target to source"


class Side(StrEnum):
    """The image that the threshold length is taken from."""

    source = "source"
    target = "target"


class Length(StrEnum):
    """The length a keypoint's error is compared with, the longer side in the frame of the score."""

    image = "image"
    object_box = "object box"
    keypoint_extent = "keypoint extent"


class Boundary(StrEnum):
    """Whether an error of exactly alpha times the length is correct."""

    included = "<="
    excluded = "<"


class Reading(StrEnum):
    """Where the flow is read: at the keypoint itself, or at the pixel nearest to it."""

    exact = "exact keypoint"
    rounded = "rounded keypoint"


class Average(StrEnum):
    """What weighs the same: every pair, every keypoint, or every class (the mean of its pairs)."""

    per_image = "per-image"
    per_point = "per-point"
    per_class = "per-class"


class FrameKind(StrEnum):
    """How an image is brought to the frame of the score."""

    original = "original pixels"
    at_most = "longer side at most"
    longer_side = "longer side"
    square = "squashed to a square of"


@dataclass(frozen=True)
class Frame:
    """The pixels that errors are measured in; ``side`` in pixels, 0 for the original's own."""

    kind: FrameKind = FrameKind.original
    side: int = 0

    def scale(self, image_size: tuple[int, int]) -> NDArray[np.float64]:
        """Factors (x, y) from the pixels of an image of (height, width) to those of the frame."""
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
class Transfer:
    """A pair's keypoints and where they were predicted, with the sizes (height, width) of its images in pixels.

    forward, rounded: (K, 2) target positions of the source keypoints, read exactly and at the nearest pixel.
    backward: (K, 2) source positions of the target keypoints, where matching that way was asked for.
    """

    pair: AnnotatedPair
    source_size: tuple[int, int]
    target_size: tuple[int, int]
    forward: Points
    rounded: Points
    backward: Points | None


@dataclass(frozen=True)
class Protocol:
    """How correspondences are scored against keypoints. See `Transfer` and the axes above."""

    name: str
    length: Length
    length_of: Side = Side.target
    direction: Direction = Direction.source_to_target
    frame: Frame = Frame()
    boundary: Boundary = Boundary.included
    reading: Reading = Reading.exact
    averages: tuple[Average, ...] = (Average.per_image,)
    alphas: tuple[float, ...] = (0.05, 0.10, 0.15)

    def errors(self, transfer: Transfer) -> NDArray[np.float64]:
        """Distances (K,) of predictions from the truth, in pixels of the frame."""
        if self.direction is Direction.target_to_source:
            assert transfer.backward is not None, "matching was asked for both ways"
            predicted, truth, size = transfer.backward, transfer.pair.source_points, transfer.source_size
        else:
            predicted = transfer.forward if self.reading is Reading.exact else transfer.rounded
            truth, size = transfer.pair.target_points, transfer.target_size
        return np.asarray(np.linalg.norm((predicted - truth) * self.frame.scale(size), axis=1))

    def threshold_length(self, transfer: Transfer) -> float:
        """The length L of this very pair, in pixels of the frame. Raises InputError where the pair has no box."""
        pair, (size, points, box) = transfer.pair, self._side(transfer)
        scale = self.frame.scale(size)
        match self.length:
            case Length.image:
                return float((scale * size[::-1]).max())
            case Length.keypoint_extent:
                return keypoint_extent(points * scale)
            case Length.object_box:
                if box is None:
                    raise InputError(f"{pair.origin}: protocol {self.name} needs an object box, and there is none")
                return box_side(box, scale)

    def correct(self, transfer: Transfer, alpha: float) -> NDArray[np.bool_]:
        """Which keypoints (K,) are found: error <= (or <) alpha L."""
        errors, reach = self.errors(transfer), alpha * self.threshold_length(transfer)
        return errors <= reach if self.boundary is Boundary.included else errors < reach

    def meaning(self) -> str:
        """The protocol in words."""
        alphas = "" if self.alphas == (0.05, 0.10, 0.15) else f"; alpha {', '.join(map(str, self.alphas))}"
        return (
            f"{self.direction}, {self.reading}, {self.frame}; "
            f"error {self.boundary} alpha x longer side of the {self.length_of}'s {self.length}; "
            f"{' and '.join(self.averages)}{alphas}"
        )

    def _side(self, transfer: Transfer) -> tuple[tuple[int, int], Points, Box | None]:
        pair = transfer.pair
        if self.length_of is Side.source:
            return transfer.source_size, pair.source_points, pair.source_box
        return transfer.target_size, pair.target_points, pair.target_box


HOUSE = "geomatch"
EVERY = "all"
_IMAGE_AND_POINT = (Average.per_image, Average.per_point)
_BACKWARD = Direction.target_to_source


def _squashed(side: int) -> Frame:
    return Frame(FrameKind.square, side)


_PF = Protocol(
    "pf", Length.keypoint_extent, boundary=Boundary.excluded, reading=Reading.rounded, averages=(Average.per_class,)
)
_PF_PASCAL = (
    Protocol(HOUSE, Length.image),
    _PF,
    Protocol("scnet", Length.image, Side.source, _BACKWARD, _squashed(224)),
    Protocol("hpf", Length.image, frame=Frame(FrameKind.at_most, 300)),
    Protocol("dhpf", Length.image, frame=_squashed(240)),
    Protocol("cats", Length.image, Side.source, _BACKWARD, _squashed(256)),
    Protocol(
        "geoaware",
        Length.image,
        frame=Frame(FrameKind.longer_side, 840),
        boundary=Boundary.excluded,
        averages=(Average.per_point,),
    ),
)
_PF_WILLOW = (
    Protocol(HOUSE, Length.keypoint_extent),
    _PF,
    # CNNGeo, WeakAlign and NCNet squash PF-PASCAL's points but leave PF-WILLOW's in the image's own pixels.
    Protocol("scnet", Length.keypoint_extent, Side.source, _BACKWARD),
    Protocol("hpf", Length.keypoint_extent, frame=Frame(FrameKind.at_most, 300)),
    Protocol("dhpf", Length.keypoint_extent, frame=_squashed(240)),
    Protocol("cats", Length.keypoint_extent, Side.source, _BACKWARD, _squashed(256)),
)
_SPAIR = (
    Protocol(HOUSE, Length.object_box, averages=_IMAGE_AND_POINT),
    Protocol("hpf", Length.object_box, frame=Frame(FrameKind.at_most, 300)),
    Protocol("dhpf", Length.object_box, frame=_squashed(240)),
    Protocol("cats", Length.object_box, Side.source, _BACKWARD, _squashed(256)),
    Protocol("dift", Length.object_box, averages=_IMAGE_AND_POINT),
    Protocol(
        "geoaware",
        Length.object_box,
        frame=Frame(FrameKind.longer_side, 840),
        boundary=Boundary.excluded,
        averages=(Average.per_point,),
        alphas=(0.01, 0.05, 0.10),
    ),
)
_PROTOCOLS: Mapping[str, tuple[Protocol, ...]] = {
    "pf-pascal": _PF_PASCAL,
    "pf-willow": _PF_WILLOW,
    "spair-71k": _SPAIR,
    "animal-parts": _SPAIR,
    "pascal-parts": (Protocol(HOUSE, Length.image),),
    "warps": (Protocol(HOUSE, Length.image, averages=_IMAGE_AND_POINT, alphas=(0.01, 0.05, 0.10)),),
    # Masks and flows, no keypoints; the length serves to say which matches of a known flow are right.
    "tss": (Protocol(HOUSE, Length.image),),
    "caltech-101": (Protocol(HOUSE, Length.image),),
}
PROTOCOL_NAMES = tuple(dict.fromkeys(protocol.name for known in _PROTOCOLS.values() for protocol in known))


def find_protocols(dataset: str, names: Sequence[str]) -> list[Protocol]:
    """A benchmark's protocols by name, in the order of the names, each once; EVERY stands for all it has.

    Raises InputError for an unknown name and for a protocol under which the benchmark is not scored.
    """
    known = {protocol.name: protocol for protocol in _PROTOCOLS[dataset]}
    wanted = dict.fromkeys(each for name in names for each in (known if name == EVERY else (name,)))
    for name in wanted:
        if name not in PROTOCOL_NAMES:
            raise InputError(f"unknown protocol '{name}': the known ones are {', '.join(PROTOCOL_NAMES)}, or {EVERY}")
        if name not in known:
            raise InputError(f"{dataset} is not scored under protocol '{name}', only under {', '.join(known)}")
    return [known[name] for name in wanted]


def house_protocol(dataset: str) -> Protocol:
    return find_protocols(dataset, [HOUSE])[0]
