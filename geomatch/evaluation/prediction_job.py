"""Predict the pairs of a benchmark by several pipelines, as the work of an engine."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
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
from geomatch.runtime.parallel_map import Finished
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
        for item in items:
            pair, before = pairs[item.place], features.cache.computed
            features.watch = Timer()
            maps = features.of_pair(pair)
            watches = {number: Timer() for number in item.pipelines}
            predictions = {}
            for number, watch in watches.items():
                match = partial(_match, pipelines[number].for_class(voc_class(pair.category)), watch)
                with watch.stage("scoring"):
                    predictions[number] = predict(pair, *maps, match, self.options)
            yield Finished(
                {
                    "predictions": predictions,
                    "seconds": {number: watch.seconds for number, watch in watches.items()},
                    "shared": features.watch.seconds,
                    "extractions": features.cache.computed - before,
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
    """The features of the images of pairs, which all pipelines share."""

    def __init__(
        self, pairs: Sequence[AnnotatedPair], pipelines: Sequence[Pipeline], options: PredictionOptions
    ) -> None:
        self.watch = Timer()
        self._pipelines = pipelines
        self._sources = {image for pair in pairs for image in (pair.source, *((pair.target,) * options.backward))}
        self.cache = FeatureCache(self._extract, [key for pair in pairs for key in self._keys(pair)])

    def of_pair(self, pair: AnnotatedPair) -> tuple[FeatureMap, FeatureMap]:
        source, target = self._keys(pair)
        return self.cache(source), self.cache(target)

    def _keys(self, pair: AnnotatedPair) -> tuple[_ImageOfClass, _ImageOfClass]:
        name = class_of(pair, self._pipelines[0])
        return (pair.source, name), (pair.target, name)

    def _extract(self, key: _ImageOfClass) -> FeatureMap:
        image, name = key
        with self.watch.stage("reading"):
            pixels = image.load()
        with self.watch.stage("extraction"):
            pipeline = self._pipelines[0].for_class(name)
            features = pipeline.extract(pixels, None if image in self._sources else Mirror.off)
            for pipeline in self._pipelines[1:]:
                features = pipeline.prepare(features, pixels)
            return features
