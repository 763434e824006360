"""Predict every pair of a benchmark once, cache the predictions, and score them."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import geomatch
from geomatch.correspondence import Correspondence, FeatureMap
from geomatch.datasets.pairs import AnnotatedPair, PairDataset, PairImage
from geomatch.datasets.pascal_ilsvrc import voc_class
from geomatch.errors import GeomatchWarning, InputError
from geomatch.evaluation.prediction import Prediction, PredictionOptions, predict
from geomatch.evaluation.protocols import Direction, Protocol
from geomatch.evaluation.results import Evaluation
from geomatch.evaluation.scoreboard import Scoreboard
from geomatch.io.predictions import PredictionStore
from geomatch.options import Mirror
from geomatch.pipeline import Pipeline
from geomatch.runtime.feature_cache import FeatureCache
from geomatch.runtime.plugins import source_sha256
from geomatch.runtime.timer import Timer

REGION_BENCHMARKS = ("pf-pascal", "pf-willow")


@dataclass(frozen=True)
class Outcome:
    """An evaluation, and the predicted keypoints of each pair.

    forward: per pair, (K, 2) float32 target positions of the source keypoints.
    relative_errors: per pair, (K,) float32, their errors divided by the threshold length of protocol ``geomatch``.
    """

    evaluation: Evaluation
    forward: Sequence[NDArray[np.float32]]
    relative_errors: Sequence[NDArray[np.float32]]


def run(
    dataset: PairDataset,
    pipelines: Sequence[Pipeline],
    protocols: Sequence[Protocol],
    *,
    cache: Path | None,
    fresh: bool = False,
    on_pair: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """Score pipelines that share one feature extractor; the features of an image are computed once for all of them.

    Args:
        dataset: the pairs.
        pipelines: one per matcher, all with the same features.
        protocols: the protocols to score the predictions under.
        cache: folder for the predictions of finished pairs. They are used again if images, annotations, features,
            matcher and program are unchanged. None disables the cache.
        fresh: delete cached predictions first.
        on_pair: called after every pair of every pipeline.

    Returns:
        One outcome per pipeline.

    Raises:
        GeomatchError: if the features do not know a class, or if a pair cannot be read or matched; the pairs finished
            before stay cached.
    """
    for name in sorted({voc_class(pair.category) for pair in dataset.pairs}):
        pipelines[0].for_class(name)  # an unknown class is reported before any work
    options = PredictionOptions(
        backward=any(protocol.direction is Direction.target_to_source for protocol in protocols),
        regions=dataset.name in REGION_BENCHMARKS,
    )
    selections: list[_Selection] = []
    try:
        for pipeline in pipelines:
            store = _open_store(selection_file(cache, dataset, pipeline), fresh=fresh) if cache else None
            selections.append(_Selection(dataset, pipeline, protocols, options, store))
        features = _Features(dataset.pairs, selections, options)
        for index, pair in enumerate(dataset.pairs):
            maps = features.pair_features(pair) if index in features.missing else None
            for selection in selections:
                prediction = selection.cached(index)
                if prediction is None:
                    assert maps is not None, "features are computed for every pair that is not cached"
                    prediction = selection.predict(index, *maps)
                selection.score(prediction)
                on_pair()
    finally:
        for selection in selections:
            selection.close()
    return [selection.outcome(features) for selection in selections]


_ImageOfClass = tuple[PairImage, str]
"""An image, and the class that its features depend on, "" if they depend on none."""


class _Features:
    """The features of the pairs that at least one selection has no cached prediction of."""

    def __init__(
        self, pairs: Sequence[AnnotatedPair], selections: Sequence[_Selection], options: PredictionOptions
    ) -> None:
        self.watch = Timer()
        self.pipelines = [selection.pipeline for selection in selections]
        self.missing = set[int]().union(*(selection.missing for selection in selections))
        used = [pairs[index] for index in sorted(self.missing)]
        self.sources = {image for pair in used for image in (pair.source, *((pair.target,) * options.backward))}
        self.cache = FeatureCache(self._extract, [key for pair in used for key in self._keys(pair)])

    def pair_features(self, pair: AnnotatedPair) -> tuple[FeatureMap, FeatureMap]:
        source, target = self._keys(pair)
        return self.cache(source), self.cache(target)

    def _keys(self, pair: AnnotatedPair) -> tuple[_ImageOfClass, _ImageOfClass]:
        name = _class_of(pair, self.pipelines[0])
        return (pair.source, name), (pair.target, name)

    def _extract(self, key: _ImageOfClass) -> FeatureMap:
        image, name = key
        with self.watch.stage("reading"):
            pixels = image.load()
        with self.watch.stage("extraction"):
            pipeline = self.pipelines[0].for_class(name)
            features = pipeline.extract(pixels, None if image in self.sources else Mirror.off)
            for pipeline in self.pipelines[1:]:
                features = pipeline.prepare(features, pixels)
            return features


class _Selection:
    """The predictions of one pipeline on a benchmark: cached ones where they exist, else new ones."""

    def __init__(
        self,
        dataset: PairDataset,
        pipeline: Pipeline,
        protocols: Sequence[Protocol],
        options: PredictionOptions,
        store: PredictionStore | None,
    ) -> None:
        self.dataset, self.pipeline, self.options, self.store = dataset, pipeline, options, store
        self.board = Scoreboard(dataset.name, dataset.pairs, protocols)
        self.watch = Timer()
        self.keys = [pair_key(pair, options, _class_of(pair, pipeline)) for pair in dataset.pairs]
        cached = store.keys() if store else set()
        self.missing = {index for index, key in enumerate(self.keys) if key not in cached}

    def cached(self, index: int) -> Prediction | None:
        if self.store is None or index in self.missing:
            return None
        arrays = self.store.get(self.keys[index])
        return Prediction.from_arrays(arrays) if arrays else None

    def predict(self, index: int, source: FeatureMap, target: FeatureMap) -> Prediction:
        """Match the pair, and cache the prediction."""
        pair = self.dataset.pairs[index]
        with self.watch.stage("scoring"):
            match = partial(self._match, self.pipeline.for_class(voc_class(pair.category)))
            prediction = predict(pair, source, target, match, self.options)
            self._save(self.keys[index], prediction)
        return prediction

    def score(self, prediction: Prediction) -> None:
        with self.watch.stage("scoring"):
            self.board.add(prediction)

    def outcome(self, features: _Features) -> Outcome:
        with self.watch.stage("scoring"):
            results, measures, curves = self.board.results(), self.board.measures(), self.board.curves()
        count = len(self.dataset.pairs)
        evaluation = Evaluation(
            dataset=self.dataset.name,
            split=self.dataset.split,
            pairs=count,
            of=self.dataset.of or count,
            keypoints=self.dataset.keypoints,
            features=self.pipeline.extractor.name,
            weights=self.pipeline.extractor.weights_sha256,
            matcher=self.pipeline.matcher_name,
            settings=self.pipeline.settings(),
            version=geomatch.__version__,
            results=results,
            measures=measures,
            curves=curves,
            skipped=list(self.dataset.skipped),
            reused=count - len(self.missing),
            extractions=features.cache.computed,
            seconds=features.watch.record() | self.watch.record(),
            pair_list=self.board.pair_list(),
        )
        return Outcome(evaluation, self.board.forward, self.board.relative_errors)

    def close(self) -> None:
        if self.store is not None:
            self.store.close()

    def _match(self, pipeline: Pipeline, source: FeatureMap, target: FeatureMap) -> Correspondence:
        with self.watch.stage("matching"):
            return pipeline.match(source, target)

    def _save(self, key: str, prediction: Prediction) -> None:
        if self.store is None:
            return
        try:
            self.store.put(key, prediction.to_arrays())
        except InputError as error:
            self.close()
            self.store = None
            warnings.warn(f"{error}; the run continues, but caches no more predictions", GeomatchWarning, stacklevel=2)


def selection_file(folder: Path, dataset: PairDataset, pipeline: Pipeline) -> Path:
    """The cache file of a pipeline's predictions on a benchmark; its name changes with all that may change them."""
    settings = pipeline.settings() | {
        "weights": pipeline.extractor.weights_sha256,
        "version": geomatch.__version__,
        "program": source_sha256(pipeline, pipeline.extractor, pipeline.matcher),
        "torch": torch.__version__,
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
    name = "-".join((dataset.name, pipeline.extractor.name, pipeline.matcher_name, digest[:16]))
    return folder / (re.sub(r"[^\w.+-]", "_", name) + ".sqlite")


def _class_of(pair: AnnotatedPair, pipeline: Pipeline) -> str:
    """The class that a pair's features depend on; "" if they depend on none."""
    return voc_class(pair.category) if pipeline.extractor.by_class else ""


def pair_key(pair: AnnotatedPair, options: PredictionOptions, name: str = "") -> str:
    """The cache key of a pair, which changes with its images, its annotations, the options, and a class ``name``."""
    files = [(path.name, (state := path.stat()).st_size, state.st_mtime_ns) for path in pair.annotation_files]
    known = (
        pair.source.fingerprint(),
        pair.target.fingerprint(),
        pair.source_points.tolist(),
        pair.target_points.tolist(),
        pair.source_keypoints is not None and pair.source_keypoints.tolist(),
        files,
        options,
        *([name] if name else []),
        *([] if pair.hidden_points is None else [pair.hidden_points.tolist(), pair.target_box]),
    )
    return hashlib.sha256(repr(known).encode()).hexdigest()


def _open_store(path: Path, *, fresh: bool) -> PredictionStore | None:
    try:
        if fresh:
            PredictionStore.delete(path)
        return PredictionStore(path)
    except InputError as error:
        warnings.warn(f"{error}; the run continues, but caches no predictions", GeomatchWarning, stacklevel=3)
        return None
