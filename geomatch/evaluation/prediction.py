"""The prediction of one annotated pair: all that the protocols and measures need, in a form small enough to cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geomatch.annotations import Box, Points
from geomatch.correspondence import Correspondence, FeatureMap
from geomatch.datasets.pairs import AnnotatedPair, Mask
from geomatch.evaluation.metrics import dense, regions
from geomatch.evaluation.metrics.keypoint_precision import Peaks, similarity_peaks
from geomatch.evaluation.metrics.pck import box_side
from geomatch.geometry.boxes import Boxes, box_iou, valid_boxes, warp_boxes
from geomatch.geometry.thin_plate_spline import ThinPlateSpline
from geomatch.io.flow import FlowField
from geomatch.matching.proposal_flow.proposals import sliding_windows

FLOW_ACCURACY_ALPHA = 0.05
FLOW_SAMPLES = 1000
LARGEST_K = 100

Match = Callable[[FeatureMap, FeatureMap], Correspondence]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """The predicted positions of a pair's keypoints, and what was measured on its flow.

    source_size, target_size: (height, width) in pixels.
    forward, rounded: (K, 2) target positions of the source keypoints: the keypoint plus the flow there, and plus the
        flow at the nearest pixel.
    confidence: (K,) in [0, 1], at the source keypoints.
    backward: (K, 2) source positions of the target keypoints; None if `PredictionOptions.backward` is off.
    sample_errors, sample_confidence: (N,) at up to FLOW_SAMPLES pixels of a known flow; errors in pixels.
    measures: single numbers by name.
    region_ious: (B,), the IoU with their true position of the matches of the source's B boxes on the object, most
        confident first; None if `PredictionOptions.regions` is off.
    region_bounds: (B,), the largest IoU that any box of the target has with that position, if boxes are matched.
    hidden_confidence: (H,), at the source keypoints that the target does not show, if they are known.
    peaks_near, peaks_elsewhere: (A, K) and (A, K + H), of `keypoint_precision.similarity_peaks`, if the hidden
        keypoints and the target's box are known.
    """

    source_size: tuple[int, int]
    target_size: tuple[int, int]
    forward: Points
    rounded: Points
    confidence: Values
    backward: Points | None = None
    sample_errors: Values = field(default_factory=lambda: np.zeros(0))
    sample_confidence: Values = field(default_factory=lambda: np.zeros(0))
    measures: dict[str, float] = field(default_factory=dict)
    region_ious: Values | None = None
    region_bounds: Values | None = None
    hidden_confidence: Values | None = None
    peaks_near: Values | None = None
    peaks_elsewhere: Values | None = None

    def to_arrays(self) -> dict[str, Values]:
        """All fields as arrays by name."""
        arrays = {
            name: np.asarray(getattr(self, name), np.float64) for name in _ARRAYS if getattr(self, name) is not None
        }
        return arrays | {_MEASURE + name: np.array([value]) for name, value in self.measures.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Values]) -> Prediction:
        """The inverse of ``to_arrays``."""
        values: dict[str, Any] = {name: arrays.get(name) for name in _ARRAYS}
        for name in ("source_size", "target_size"):
            values[name] = tuple(int(length) for length in arrays[name])
        measures = {
            key.removeprefix(_MEASURE): float(value[0]) for key, value in arrays.items() if key.startswith(_MEASURE)
        }
        return cls(**values, measures=measures)


_MEASURE = "measure: "
_ARRAYS = tuple(each.name for each in fields(Prediction) if each.name != "measures")


@dataclass(frozen=True)
class PredictionOptions:
    """What is computed beyond the forward match: the match from target to source, and the matching of regions."""

    backward: bool
    regions: bool


def predict(
    pair: AnnotatedPair, source: FeatureMap, target: FeatureMap, match: Match, options: PredictionOptions
) -> Prediction:
    """Match a pair and measure what can be scored. Raises what ``match`` and the reading of annotations raise."""
    correspondence = match(source, target)
    backward = match(target, source) if options.backward and len(pair.target_points) else None
    measures: dict[str, float] = {}
    sample_errors = sample_confidence = np.zeros(0)
    if pair.flow is not None:
        errors, confidence = _flow_errors(pair.flow(), correspondence)
        measures["flow accuracy"] = dense.flow_accuracy(errors, target.image_size, FLOW_ACCURACY_ALPHA)
        measures["end-point error"] = float(errors.mean()) if len(errors) else float("nan")
        sample = np.linspace(0, len(errors) - 1, min(len(errors), FLOW_SAMPLES)).astype(np.intp)
        sample_errors, sample_confidence = errors[sample], confidence[sample]
    if pair.masks is not None:
        measures |= _mask_measures(*pair.masks(), correspondence)
    if pair.parts is not None:
        in_source, in_target = pair.parts()
        measures["part IoU"] = dense.weighted_part_iou(correspondence.warp_mask(in_target), in_source)
    if correspondence.mirror is not None:
        measures["mirrored"] = float(correspondence.mirror.mirrored)
        measures["mirror probability"] = correspondence.mirror.probability or measures["mirrored"]
    ious, bounds = _region_ious(pair, correspondence) if options.regions else (None, None)
    mapped, nearest = correspondence.map_points(pair.source_points), np.floor(pair.source_points + 0.5)
    near, elsewhere = _peaks(pair, source, target)
    return Prediction(
        source_size=source.image_size,
        target_size=target.image_size,
        forward=mapped.positions,
        rounded=pair.source_points + correspondence.map_points(nearest).positions - nearest,
        confidence=mapped.confidence,
        backward=backward.map_points(pair.target_points).positions if backward else None,
        sample_errors=sample_errors,
        sample_confidence=sample_confidence,
        measures=measures,
        region_ious=ious,
        region_bounds=bounds,
        hidden_confidence=(
            None if pair.hidden_points is None else correspondence.map_points(pair.hidden_points).confidence
        ),
        peaks_near=near,
        peaks_elsewhere=elsewhere,
    )


def _peaks(pair: AnnotatedPair, source: FeatureMap, target: FeatureMap) -> Peaks | tuple[None, None]:
    """`Prediction.peaks_near` and ``peaks_elsewhere``: those of the features, whatever the matcher."""
    if pair.hidden_points is None or pair.target_box is None:
        return None, None
    points = torch.from_numpy(np.vstack((pair.source_points, pair.hidden_points))).to(source.descriptors)
    described = source.descriptors.flatten(1)[:, source.grid.nearest(points)]
    similarity = (described.T @ target.descriptors.flatten(1)).cpu().numpy()
    centres = target.grid.centres().double().numpy()
    return similarity_peaks(similarity, centres, pair.target_points, box_side(pair.target_box, np.ones(2)))


def _flow_errors(truth: FlowField, correspondence: Correspondence) -> tuple[Values, Values]:
    """End-point errors and confidence (N,) at all pixels of known flow."""
    errors = dense.end_point_errors(correspondence.flow.cpu().numpy(), truth.flow, truth.valid)
    return errors, correspondence.confidence.cpu().numpy()[truth.valid].astype(np.float64)


def _mask_measures(in_source: Mask, in_target: Mask, correspondence: Correspondence) -> dict[str, float]:
    """The measures of Caltech-101: the target's mask transferred to the source, compared with the source's mask."""
    transferred = correspondence.warp_mask(in_target)
    rows, columns = np.indices(in_source.shape)
    positions = np.stack((columns.ravel(), rows.ravel()), axis=1).astype(np.float64)
    mapped = np.floor(positions + correspondence.flow.cpu().numpy().reshape(2, -1).T + 0.5)
    height, width = in_target.shape
    inside = ((mapped >= 0) & (mapped < (width, height))).all(axis=1)
    boxes = dense.foreground_box(in_source), dense.foreground_box(in_target)
    return {
        "LT-ACC": dense.label_transfer_accuracy(transferred, in_source),
        "mask IoU": dense.intersection_over_union(transferred, in_source),
        "LOC-ERR": dense.localisation_error(positions[inside], mapped[inside], *boxes),
    }


def _region_ious(pair: AnnotatedPair, correspondence: Correspondence) -> tuple[Values, Values | None]:
    """`Prediction.region_ious` and ``region_bounds``, as in the released code of Proposal Flow and SCNet.

    The object's box is the extent of all of the source's keypoints (prepKP_PASCAL.m). The true position of a box is
    given by a spline through the keypoints of both images, clipped to the target (makeGT_PASCAL.m, which also rounds).
    """
    boxes, predicted, confidence, candidates = _matched_boxes(correspondence)
    on_object = np.flatnonzero(valid_boxes(boxes, _extent_box(pair.in_source), pair.in_source))
    ranked = on_object[np.argsort(-confidence[on_object], kind="stable")]
    spline = ThinPlateSpline.fit(pair.source_points, pair.target_points)
    height, width = correspondence.target_size
    edges = (-0.5, -0.5), (width - 0.5, height - 0.5)
    truth = warp_boxes(boxes[ranked], lambda corners: np.clip(spline(corners), *edges))
    bounds = None if candidates is None else regions.best_iou(truth, candidates)
    return box_iou(predicted[ranked], truth), bounds


def _matched_boxes(correspondence: Correspondence) -> tuple[Boxes, Boxes, Values, Boxes | None]:
    """Boxes (B, 4) of the source, their matches (B, 4) in the target, the confidence (B,), and the target's boxes.

    A matcher of boxes gives its own boxes; an unmatched one becomes an empty box. For other matchers, sliding windows
    are moved by the flow at their corners, with the mean confidence of their pixels; the target has no boxes then.
    """
    if correspondence.regions is not None:
        matched = correspondence.regions
        source, target, score = (
            each.double().cpu().numpy() for each in (matched.source, matched.target, matched.score)
        )
        candidates = None if matched.candidates is None else matched.candidates.double().cpu().numpy()
        return source, np.where(score[:, None] > 0, target, 0.0), score, candidates
    boxes = sliding_windows(correspondence.source_size)
    predicted = warp_boxes(boxes, lambda corners: correspondence.map_points(corners).positions)
    return boxes, predicted, regions.mean_in_boxes(correspondence.confidence.double().cpu().numpy(), boxes), None


def _extent_box(points: Points) -> Box:
    left, top = points.min(axis=0).tolist()
    right, bottom = points.max(axis=0).tolist()
    return left, top, right, bottom
