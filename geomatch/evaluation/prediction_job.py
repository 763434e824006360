"""Predict the pairs of a benchmark by several pipelines, as the work of an engine."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from geomatch.correspondence import Correspondence, FeatureMap
from geomatch.datasets.pairs import AnnotatedPair, PairDataset, PairImage
from geomatch.datasets.pascal_ilsvrc import voc_class
from geomatch.evaluation.prediction import PredictionOptions, predict
from geomatch.options import Mirror
from geomatch.pipeline import Pipeline
from geomatch.runtime.feature_cache import FeatureCache
from geomatch.runtime.parallel_map import Finished, map_in_order
from geomatch.runtime.timer import Timer


@dataclass(frozen=True)
class WantedPair:
    """A pair of a benchmark that is to be predicted: its place there, by which of the pipelines, and its images."""

    place: int
    pipelines: Sequence[int]
    images: Sequence[Hashable]


@dataclass(frozen=True)
class PredictionJob:
    """Predict pairs; what cannot be predicted is raised.

    Pairs overlap if the pipelines extract images in batches. Their seconds are then those of threads, which also wait.

    dataset, pipelines: make the benchmark, and the pipelines that share one feature extractor, once a process. A record
    has the ``predictions`` by the number of the pipeline, the ``seconds`` of each of them, those ``shared`` by all, and
    how many images were extracted.
    """

    dataset: Callable[[], PairDataset]
    pipelines: Callable[[], Sequence[Pipeline]]
    options: PredictionOptions
    folder: Path | None = None

    def start(self) -> None:
        self.dataset(), self.pipelines()

    def __call__(self, items: Sequence[WantedPair]) -> Iterator[Finished]:
        pairs, pipelines = self.dataset().pairs, self.pipelines()
        features = _Features([pairs[item.place] for item in items], pipelines, self.options)
        overlapping = map_in_order if pipelines[0].batch > 1 else map  # images meet in a batch only if pairs overlap
        return iter(overlapping(lambda item: self._predict(pairs[item.place], item.pipelines, features), items))

    def _predict(self, pair: AnnotatedPair, numbers: Sequence[int], features: _Features) -> Finished:
        watches = {number: Timer() for number in numbers}
        predictions = {}
        with features.of_pair(pair) as maps:
            for number, watch in watches.items():
                match = partial(_match, features.pipelines[number].for_class(voc_class(pair.category)), watch)
                with watch.stage("scoring"):
                    predictions[number] = predict(pair, *maps, match, self.options)
        shared, extractions = features.spent()
        return Finished(
            {
                "predictions": predictions,
                "seconds": {number: watch.seconds for number, watch in watches.items()},
                "shared": shared.seconds,
                "extractions": extractions,
            }
        )

    def images(self, item: WantedPair) -> Sequence[Hashable]:
        return item.images

    def failure(self, item: WantedPair, message: str) -> Finished:
        return Finished({"error": f"pair {item.place + 1}: {message}"})


def class_of(pair: AnnotatedPair, pipeline: Pipeline) -> str:
    """The class that a pair's features depend on; "" if they depend on none."""
    return voc_class(pair.category) if pipeline.extractor.by_class else ""


def _match(pipeline: Pipeline, watch: Timer, source: FeatureMap, target: FeatureMap) -> Correspondence:
    with watch.stage("matching"):
        return pipeline.match(source, target)


_ImageOfClass = tuple[PairImage, str]
"""An image, and the class that its features depend on, "" if they depend on none."""


class _Features:
    """The features of the images of pairs, which all pipelines share; threads may share them, too."""

    def __init__(
        self, pairs: Sequence[AnnotatedPair], pipelines: Sequence[Pipeline], options: PredictionOptions
    ) -> None:
        self.pipelines = pipelines
        self._sources = {image for pair in pairs for image in (pair.source, *((pair.target,) * options.backward))}
        self._cache = FeatureCache(self._extract, [key for pair in pairs for key in self._keys(pair)])
        self._spent: deque[Timer] = deque()

    @contextmanager
    def of_pair(self, pair: AnnotatedPair) -> Iterator[tuple[FeatureMap, FeatureMap]]:
        source, target = self._keys(pair)
        try:
            yield self._cache.get(source), self._cache.get(target)
        finally:
            self._cache.release(source)
            self._cache.release(target)

    def spent(self) -> tuple[Timer, int]:
        """The seconds of the images that were extracted since this was asked last, and how many these are."""
        total, count = Timer(), 0
        while self._spent:
            total.add(self._spent.popleft().seconds)
            count += 1
        return total, count

    def _keys(self, pair: AnnotatedPair) -> tuple[_ImageOfClass, _ImageOfClass]:
        name = class_of(pair, self.pipelines[0])
        return (pair.source, name), (pair.target, name)

    def _extract(self, key: _ImageOfClass) -> FeatureMap:
        (image, name), watch = key, Timer()
        with watch.stage("reading"):
            pixels = image.load()
        with watch.stage("extraction"):
            pipeline = self.pipelines[0].for_class(name)
            features = pipeline.extract(pixels, None if image in self._sources else Mirror.off)
            for pipeline in self.pipelines[1:]:
                features = pipeline.prepare(features, pixels)
        self._spent.append(watch)
        return features
