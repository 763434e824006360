"""Scores of predictions. Every score is a ratio of two sums over pairs, so one bootstrap serves them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geomatch.datasets.pairs import AnnotatedPair
from geomatch.evaluation.measures import (
    MEASURES,
    OCCLUDED_BELOW,
    precision_measures,
    ratio_measure,
    track_measures,
)
from geomatch.evaluation.metrics.bootstrap import class_mean_intervals, ratio_intervals
from geomatch.evaluation.metrics.calibration import (
    FRACTIONS,
    area_under_sparsification_error,
    calibration,
    sparsification,
)
from geomatch.evaluation.metrics.keypoint_precision import Peaks
from geomatch.evaluation.metrics.regions import (
    REGION_THRESHOLDS,
    area_under_curve,
    mean_iou_by_rank,
    pooled_mean_iou,
    probability_of_correct_regions,
)
from geomatch.evaluation.metrics.side import seen_from_opposite_sides
from geomatch.evaluation.metrics.tracks import TrackCounts, count_tracks
from geomatch.evaluation.prediction import LARGEST_K, Prediction, Values
from geomatch.evaluation.protocols import Average, Protocol, default_protocol
from geomatch.evaluation.results import ClassScore, Curve, Measure, Result, Score, ScoredPair

TRACK_BENCHMARKS = ("tap-vid-davis",)
"""Their pairs are frames of videos, and their hidden keypoints are occluded: the measures of TAP-Vid are for them."""
CLASS_MEANS = (Average.per_class, Average.per_class_pooled)
GEOMETRY_AWARE = "geometry-aware points"
"""The name of the part of the keypoints for which `AnnotatedPair.geometry_aware` is true."""
DEGREES = ("easy", "medium", "hard", "none", "source", "target", "both")
"""In this order the degrees of a variation are reported."""
CONFIDENCE_ALPHA = 0.1
SIDES: Mapping[bool | None, str] = {False: "same side", True: "opposite sides"}
"""Groups of pairs by `seen_from_opposite_sides`."""
CURVE_ALPHAS = tuple(step / 100 for step in range(31))


class Scoreboard:
    """Collects what the scores need of the predictions, which are added one per pair in the order of ``pairs``."""

    def __init__(self, dataset: str, pairs: Sequence[AnnotatedPair], protocols: Sequence[Protocol]) -> None:
        self.pairs, self.protocols, self.default = pairs, protocols, default_protocol(dataset)
        aware = [pair.geometry_aware for pair in pairs]
        self.points = np.array([len(pair.source_points) for pair in pairs], np.int64)
        self.counts = PointCounts(self.points, protocols)
        self.aware = PointCounts(np.array([0 if each is None else each.sum() for each in aware], np.int64), protocols)
        self.measured: dict[str, Values] = {}
        self.forward: list[NDArray[np.float32]] = []
        self.relative_errors: list[NDArray[np.float32]] = []
        self.confidence: list[NDArray[np.float32]] = []
        self.pcr: list[Values] = []
        self.ranked_ious = np.full((len(pairs), LARGEST_K), np.nan)
        self.peaks: dict[int, Peaks] = {}
        self.tracks: list[TrackCounts] = []
        self.tracked = dataset in TRACK_BENCHMARKS

    def add(self, prediction: Prediction) -> None:
        """Score the next pair. Raises InputError if a protocol lacks an annotation it needs."""
        index = len(self.forward)
        pair = self.pairs[index]
        self.forward.append(prediction.forward.astype(np.float32))
        if len(pair.source_points):
            for protocol in self.protocols:
                for alpha in protocol.alphas:
                    correct = protocol.correct(pair, prediction, alpha)
                    self.counts.correct[protocol.name, alpha][index] = correct.sum()
                    if pair.geometry_aware is not None:
                        self.aware.correct[protocol.name, alpha][index] = correct[pair.geometry_aware].sum()
        errors, confidence = self.default.errors(pair, prediction), prediction.confidence
        if len(errors):
            self._measure(index, "end-point error", float(errors.mean()))
        else:
            errors, confidence = prediction.sample_errors, prediction.sample_confidence
        length = self.default.threshold_length(pair, prediction) if len(errors) else 1.0
        self.relative_errors.append((errors / length).astype(np.float32))
        self.confidence.append(confidence.astype(np.float32))
        for name, value in prediction.measures.items():
            self._measure(index, name, value)
        if prediction.region_ious is not None:
            self._add_regions(index, prediction.region_ious, prediction.region_bounds)
        if prediction.peaks_near is not None and prediction.peaks_elsewhere is not None:
            self.peaks[index] = prediction.peaks_near, prediction.peaks_elsewhere
        if self.tracked:
            seen, hidden_seen = (
                np.asarray(values) >= OCCLUDED_BELOW for values in (prediction.confidence, prediction.hidden_confidence)
            )
            self.tracks.append(count_tracks(self.default.errors(pair, prediction), seen, hidden_seen))

    def results(self) -> list[Result]:
        """PCK under every protocol, average and alpha; empty for benchmarks without keypoints."""
        if not self.points.any():
            return []
        columns = [(p, average, alpha) for p in self.protocols for average in p.averages for alpha in p.alphas]
        table = self._table([self.counts.column(*column) for column in columns])
        everything = np.arange(len(self.pairs))
        by_class = {name: table.scores(members) for name, members in self._groups().items()}
        parts = {name: table.scores(members) for name, members in self._variations().items()}
        if self.aware.points.any():
            parts[GEOMETRY_AWARE] = self._table([self.aware.column(*column) for column in columns]).scores(everything)
        overall, class_means = table.scores(everything), table.class_means(self._categories())
        return [
            Result(
                protocol=protocol.name,
                average=average,
                alpha=alpha,
                pck=(whole := class_means if average in CLASS_MEANS else overall)[column].value,
                interval=whole[column].interval,
                per_class=_class_scores(by_class, column),
                breakdown=_class_scores(parts, column),
            )
            for column, (protocol, average, alpha) in enumerate(columns)
        ]

    def measures(self) -> list[Measure]:
        """The means of the measures per pair, then the measures pooled over all points."""
        names = [name for name in MEASURES if name in self.measured]
        tracks = track_measures(self.tracks, self._categories(), self._classes()) if self.tracks else []
        return [
            *self._pairwise_measures(names),
            *self._ranked_measures(),
            *tracks,
            *self._precision_measures(),
            *self._pooled_measures(),
        ]

    def curves(self) -> list[Curve]:
        """The curves of the report; see `geomatch.evaluation.results.Curve`."""
        curves = []
        if self.points.any():
            curves.append(Curve("pck", list(CURVE_ALPHAS), self._pck_curve()))
        wrong, confidence = self._pooled()
        if len(wrong):
            curve, best = sparsification(wrong, confidence), sparsification(wrong, -wrong)
            curves.append(Curve("sparsification", list(FRACTIONS), curve.tolist(), reference=best.tolist()))
            bins = calibration(wrong == 0, confidence)
            curves.append(
                Curve("calibration", bins.confidence.tolist(), bins.correct.tolist(), weights=bins.share.tolist())
            )
        if self.pcr:
            curves.append(Curve("pcr", list(REGION_THRESHOLDS), np.mean(self.pcr, axis=0).tolist()))
            miou = pooled_mean_iou(self.ranked_ious).ratios().tolist()
            curves.append(Curve("miou", [float(k) for k in range(1, LARGEST_K + 1)], miou))
        return curves

    def pair_list(self) -> list[ScoredPair]:
        """Every pair with its number of correct points."""
        return [
            ScoredPair(
                source=pair.source.name,
                target=pair.target.name,
                category=pair.category,
                group=pair.group,
                points=len(pair.source_points),
                correct={
                    p.name: {f"{alpha:g}": int(self.counts.correct[p.name, alpha][index]) for alpha in p.alphas}
                    for p in self.protocols
                }
                if len(pair.source_points)
                else {},
            )
            for index, pair in enumerate(self.pairs)
        ]

    def _add_regions(self, index: int, ious: Values, bounds: Values | None) -> None:
        self.pcr.append(probability_of_correct_regions(ious))
        self._measure(index, "PCR AuC", area_under_curve(REGION_THRESHOLDS, self.pcr[-1]))
        if bounds is not None:
            curve = probability_of_correct_regions(bounds)
            self._measure(index, "PCR AuC, upper bound", area_under_curve(REGION_THRESHOLDS, curve))
        best = ious[:LARGEST_K]
        self.ranked_ious[index, : len(best)] = best

    def _measure(self, index: int, name: str, value: float) -> None:
        self.measured.setdefault(name, np.full(len(self.pairs), np.nan))[index] = value

    def _pairwise_measures(self, names: Sequence[str]) -> list[Measure]:
        if not names:
            return []
        columns = [(np.nan_to_num(self.measured[name]), np.isfinite(self.measured[name]) * 1.0) for name in names]
        table = self._table(columns)
        overall = table.scores(np.arange(len(self.pairs)))
        by_class = {name: table.scores(members) for name, members in self._groups().items()}
        return [
            Measure(
                name=name,
                about=MEASURES[name].about,
                unit=MEASURES[name].unit,
                better=MEASURES[name].better,
                value=overall[column].value,
                interval=overall[column].interval,
                per_class={group: scores[column] for group, scores in by_class.items() if scores[column].pairs},
                per_pair=[None if np.isnan(value) else value for value in self.measured[name].tolist()],
            )
            for column, name in enumerate(names)
        ]

    def _ranked_measures(self) -> list[Measure]:
        """The areas under mIoU@k, which are no means over pairs."""
        if not self.pcr:
            return []
        everything, groups = np.full(len(self.pairs), "all"), self._groups()
        by_rank = mean_iou_by_rank(self.ranked_ious)
        return [
            ratio_measure("mIoU@k AuC, SCNet", pooled_mean_iou(self.ranked_ious), everything, groups),
            ratio_measure("mIoU@k AuC, PF", by_rank, self._categories(), groups),
        ]

    def _precision_measures(self) -> list[Measure]:
        """KAP of the pairs whose hidden keypoints are known."""
        known = list(self.peaks)
        if not known:
            return []
        categories = self._categories()[known]
        classes = {name: np.flatnonzero(categories == name) for name in np.unique(categories).tolist()}
        near, elsewhere = zip(*self.peaks.values(), strict=True)
        return precision_measures(near, elsewhere, classes)

    def _pooled_measures(self) -> list[Measure]:
        wrong, confidence = self._pooled()
        if not len(wrong):
            return []
        values = {
            "AUSE": area_under_sparsification_error(wrong, confidence),
            "ECE": calibration(wrong == 0, confidence).expected_calibration_error,
            "confident half": 1 - float(sparsification(wrong, confidence, [0.5])[0]),
        }
        return [
            Measure(name, info.about, info.unit, info.better, value, None, {}, [])
            for name, value in values.items()
            for info in (MEASURES[name],)
        ]

    def _pooled(self) -> tuple[Values, Values]:
        """Whether the match is wrong (0 or 1), and its confidence, of every point of every pair."""
        errors = np.concatenate([np.zeros(0, np.float32), *self.relative_errors])
        confidence = np.concatenate([np.zeros(0, np.float32), *self.confidence]).astype(np.float64)
        return (errors > CONFIDENCE_ALPHA).astype(np.float64), confidence.clip(0, 1)

    def _pck_curve(self) -> list[float]:
        errors = np.concatenate([each for each, n in zip(self.relative_errors, self.points, strict=True) if n])
        pair_of = np.repeat(np.arange(len(self.pairs)), self.points)
        weights = 1 / (self.points[pair_of] * np.count_nonzero(self.points))
        return [float(weights[errors <= alpha].sum()) for alpha in CURVE_ALPHAS]

    def _categories(self) -> NDArray[np.str_]:
        return np.array([pair.category for pair in self.pairs])

    def _classes(self) -> dict[str, NDArray[np.intp]]:
        """Indices of the pairs of each category."""
        categories = self._categories()
        return {name: np.flatnonzero(categories == name) for name in sorted(set(categories.tolist()))}

    def _variations(self) -> dict[str, NDArray[np.intp]]:
        """Indices of the pairs of each degree of each kind of variation in which pairs differ."""
        degrees: dict[str, dict[str, list[int]]] = {}
        for index, pair in enumerate(self.pairs):
            for variation in pair.variations:
                degrees.setdefault(variation.partition(":")[0], {}).setdefault(variation, []).append(index)

        def place(variation: str) -> int:
            degree = variation.rpartition(": ")[2]
            return DEGREES.index(degree) if degree in DEGREES else len(DEGREES)

        return {
            variation: np.array(kind[variation], np.intp)
            for kind in degrees.values()
            if len(kind) > 1
            for variation in sorted(kind, key=place)
        }

    def _groups(self) -> dict[str, NDArray[np.intp]]:
        """Indices of the pairs of each category, of each group, and of either side if there are pairs of both."""
        groups = np.array([pair.group or "" for pair in self.pairs])
        named = [(name, groups == name) for name in sorted(set(groups.tolist()) - {""}, reverse=True)]
        sides = [seen_from_opposite_sides(pair.source_points, pair.target_points) for pair in self.pairs]
        if {True, False} <= set(sides):
            named += [(name, np.array([side is opposite for side in sides])) for opposite, name in SIDES.items()]
        return self._classes() | {name: np.flatnonzero(members) for name, members in named}

    def _table(self, columns: Sequence[tuple[Values, Values]]) -> RatioTable:
        numerators, denominators = (np.stack(each, axis=1) for each in zip(*columns, strict=True))
        return RatioTable(numerators, denominators)


class PointCounts:
    """How many points of each pair are scored, (N,), and how many of them are correct under a protocol and alpha."""

    def __init__(self, points: NDArray[np.int64], protocols: Sequence[Protocol]) -> None:
        self.points = points
        self.correct = {
            (protocol.name, alpha): np.zeros(len(points), np.int64)
            for protocol in protocols
            for alpha in protocol.alphas
        }

    def column(self, protocol: Protocol, average: Average, alpha: float) -> tuple[Values, Values]:
        """Numerators and denominators (N,) of PCK."""
        correct = self.correct[protocol.name, alpha].astype(np.float64)
        if average in (Average.per_point, Average.per_class_pooled):
            return correct, self.points.astype(np.float64)
        return correct / np.maximum(self.points, 1), (self.points > 0).astype(np.float64)


@dataclass(frozen=True)
class RatioTable:
    """M scores of N pairs, each the sum of its numerators over the sum of its denominators: (N, M) both."""

    numerators: Values
    denominators: Values

    def scores(self, members: NDArray[np.intp]) -> list[Score]:
        """The M scores, with intervals, over the pairs ``members``."""
        above, below = self.numerators[members], self.denominators[members]
        return _to_scores(below, _ratios(above, below), ratio_intervals(above, below))

    def class_means(self, categories: NDArray[np.str_]) -> list[Score]:
        """The means over categories of the M scores; ``categories`` (N,) gives the category of each pair."""
        used = self.denominators.any(axis=1)
        above, below, labels = self.numerators[used], self.denominators[used], categories[used]
        values = _ratios(above, below)
        if len(labels):
            classes = [labels == label for label in np.unique(labels)]
            values = np.mean([_ratios(above[members], below[members]) for members in classes], axis=0)
        return _to_scores(below, values, class_mean_intervals(above, labels, denominators=below))


def _class_scores(scores: Mapping[str, Sequence[Score]], column: int) -> dict[str, ClassScore]:
    """The scores in a column of the named parts of the pairs that have any."""
    return {
        name: ClassScore(each[column].pairs, each[column].value, each[column].interval)
        for name, each in scores.items()
        if each[column].pairs
    }


def _to_scores(denominators: Values, values: Values, intervals: Values) -> list[Score]:
    pairs = np.count_nonzero(denominators, axis=0)
    return [
        Score(int(count), float(value), (float(low), float(high)))
        for count, value, (low, high) in zip(pairs, values, intervals, strict=True)
    ]


def _ratios(numerators: Values, denominators: Values) -> Values:
    above, below = numerators.sum(axis=0), denominators.sum(axis=0)
    return np.asarray(np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0))
