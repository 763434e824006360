"""The names of all scores other than PCK, and the scores that are no means over pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geomatch.evaluation.metrics.bootstrap import area_interval
from geomatch.evaluation.metrics.keypoint_precision import KAP_ALPHAS, keypoint_average_precision
from geomatch.evaluation.metrics.ratios import WeightedRatios
from geomatch.evaluation.metrics.tracks import TrackCounts
from geomatch.evaluation.prediction import Values
from geomatch.evaluation.results import Measure, Score

OCCLUDED_BELOW = 0.5
"""Points of less confidence are taken to be occluded: it is the probability that a match is right."""

Groups = Mapping[str, NDArray[np.intp]]
"""Indices of the pairs of classes, and of groups of classes, by name."""


@dataclass(frozen=True)
class MeasureInfo:
    """The fixed fields of a `geomatch.evaluation.results.Measure`."""

    about: str
    unit: str = "share"
    better: str = "higher"


MEASURES: Mapping[str, MeasureInfo] = {
    "end-point error": MeasureInfo("mean distance from the truth, in pixels of the target", "pixels", "lower"),
    "flow accuracy": MeasureInfo("foreground pixels within .05 of the target's longer side of the true flow"),
    "LT-ACC": MeasureInfo("pixels whose transferred label is correct"),
    "mask IoU": MeasureInfo("transferred foreground against the source's own"),
    "LOC-ERR": MeasureInfo("mean |dx| + |dy| of positions relative to the objects' boxes", "boxes", "lower"),
    "part IoU": MeasureInfo("transferred parts, weighted by the area of their union"),
    "PCR AuC": MeasureInfo("area under the share of regions with 1 - IoU below a threshold, over the threshold"),
    "PCR AuC, upper bound": MeasureInfo("the same if every region were matched to the best box of the target"),
    "mIoU@k AuC, SCNet": MeasureInfo("area under mIoU@k, k to 100: mean IoU of the k best regions of all pairs"),
    "mIoU@k AuC, PF": MeasureInfo(
        "area to at most 99 under mIoU@k, k to 100: mean of the mean IoU of each rank; mean of classes", "ranks"
    ),
    "mirrored": MeasureInfo("pairs matched with the source flipped left to right"),
    "mirror probability": MeasureInfo("probability that a pair matches better with the source flipped"),
    "delta_avg": MeasureInfo("visible points within 1, 2, 4, 8 and 16 pixels of 256, mean over these; mean of videos"),
    "AJ": MeasureInfo(
        "Jaccard index of visible points within 1, 2, 4, 8 and 16 pixels, mean over these; mean of videos"
    ),
    "OA": MeasureInfo("points told visible or occluded correctly, by confidence of at least .5; mean of videos"),
    **{
        f"KAP@{alpha:.2f}": MeasureInfo("average precision of similarity near the truth, hidden keypoints included")
        for alpha in KAP_ALPHAS
    },
    "AUSE": MeasureInfo("area between the sparsification curve and the best possible one", better="lower"),
    "ECE": MeasureInfo("mean gap between confidence and share correct at alpha = .1", better="lower"),
    "confident half": MeasureInfo("share correct at alpha = .1 among the more confident half"),
}


def ratio_measure(name: str, ratios: WeightedRatios, classes: NDArray[np.str_], groups: Groups) -> Measure:
    """A sum of ratios, as the mean over ``classes`` (N,); each group of pairs is a class of its own."""
    info, total = MEASURES[name], _ratio_score(ratios, classes)
    by_group = {
        group: _ratio_score(ratios.of(members), np.full(len(members), group)) for group, members in groups.items()
    }
    return Measure(name, info.about, info.unit, info.better, total.value, total.interval, by_group, [])


def track_measures(counts: Sequence[TrackCounts], videos: NDArray[np.str_], groups: Groups) -> list[Measure]:
    """TAP-Vid's three measures of the counts of N pairs of frames; ``videos`` (N,) are their categories."""
    visible, points = (np.array([getattr(each, name) for each in counts], np.float64) for name in ("visible", "points"))
    within, found, claimed = (
        np.array([getattr(each, name) for each in counts], np.float64) for name in ("within", "found", "claimed")
    )
    told = np.array([each.told for each in counts], np.float64)
    ratios = {
        "delta_avg": WeightedRatios.mean(within, np.broadcast_to(visible[:, None], within.shape)),
        "AJ": WeightedRatios.mean(found, claimed),
        "OA": WeightedRatios.mean(told[:, None], points[:, None]),
    }
    return [ratio_measure(name, each, videos, groups) for name, each in ratios.items()]


def precision_measures(near: Sequence[Values], elsewhere: Sequence[Values], groups: Groups) -> list[Measure]:
    """KAP: average precision over all keypoints of a class, then the mean over classes.

    near, elsewhere: of N pairs, as `keypoint_precision.similarity_peaks` gives them. groups: indices of the pairs of
    each class.
    """
    measures = []
    for row, alpha in enumerate(KAP_ALPHAS):
        by_class = {}
        for name, members in groups.items():
            positive, negative = (np.concatenate([of[index][row] for index in members]) for of in (near, elsewhere))
            value = keypoint_average_precision(positive, negative)
            by_class[name] = Score(len(members), value, (float("nan"), float("nan")))
        name = f"KAP@{alpha:.2f}"
        info, value = MEASURES[name], float(np.mean([score.value for score in by_class.values()]))
        measures.append(Measure(name, info.about, info.unit, info.better, value, None, by_class, []))
    return measures


def _ratio_score(ratios: WeightedRatios, classes: NDArray[np.str_]) -> Score:
    """The mean over classes of a sum of ratios, with its interval; ``classes`` (N,) gives the class of each pair."""
    members = [ratios.of(np.flatnonzero(classes == name)) for name in np.unique(classes)]
    value = float(np.mean([each.ratios() @ each.weights for each in members]))
    low, high = area_interval(ratios.above, ratios.below, ratios.weights, classes).tolist()
    return Score(len(classes), value, (low, high))
