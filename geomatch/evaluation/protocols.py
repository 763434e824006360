"""What a benchmark's number means: from which length the threshold comes, and over what the mean is taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from geomatch.datasets.pairs import AnnotatedPair
from geomatch.evaluation.metrics import keypoint_extent


class ThresholdLength(StrEnum):
    """The length in the target image that a keypoint's error is compared with."""

    keypoint_extent = "longer side of the target's keypoint extent"
    object_box = "longer side of the target's object box"


class Average(StrEnum):
    """Whether every pair weighs the same, or every keypoint."""

    per_image = "per-image"
    per_point = "per-point"


@dataclass(frozen=True)
class Protocol:
    """How correspondences are scored against keypoints.

    Source keypoints, unrounded, are sent through the flow into the target, both in the images' own pixels; a
    keypoint is correct if its distance from the truth is at most alpha times the threshold length.
    """

    name: str
    threshold_length: ThresholdLength
    averages: tuple[Average, ...]
    alphas: tuple[float, ...] = (0.05, 0.10, 0.15)

    def length(self, pair: AnnotatedPair) -> float:
        """The threshold length of a pair, in pixels of its target."""
        if self.threshold_length is ThresholdLength.object_box:
            assert pair.target_box is not None, "the protocol's benchmarks give boxes"
            left, top, right, bottom = pair.target_box
            return max(right - left, bottom - top)
        return keypoint_extent(pair.target_points)


HOUSE: Mapping[str, Protocol] = {
    "pf-willow": Protocol("geomatch", ThresholdLength.keypoint_extent, (Average.per_image,)),
    "spair-71k": Protocol("geomatch", ThresholdLength.object_box, (Average.per_image, Average.per_point)),
    "animal-parts": Protocol("geomatch", ThresholdLength.object_box, (Average.per_image, Average.per_point)),
}
