"""Predict every pair of a benchmark once, keep the predictions, and score them."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import geomatch
from geomatch.correspondence import Correspondence, FeatureMap
from geomatch.datasets.pairs import AnnotatedPair, PairDataset, PairImage
from geomatch.errors import GeomatchWarning, InputError
from geomatch.evaluation.prediction import Prediction, Wanted, predict
from geomatch.evaluation.protocols import Direction, Protocol
from geomatch.evaluation.results import Evaluation
from geomatch.evaluation.scoreboard import Scoreboard
from geomatch.io.predictions import PredictionStore
from geomatch.pipeline import Pipeline
from geomatch.runtime.feature_cache import FeatureCache
from geomatch.runtime.plugins import source_sha256
from geomatch.runtime.timer import Timer

REGION_BENCHMARKS = ("pf-pascal", "pf-willow")


@dataclass(frozen=True)
class Outcome:
    """An evaluation, and what became of each pair's source keypoints.

    forward: (K, 2) float32 target positions, pair by pair. relative_errors: (K,) float32, their distances from the
    truth over the threshold length, house protocol.
    """

    evaluation: Evaluation
    forward: Sequence[NDArray[np.float32]]
    relative_errors: Sequence[NDArray[np.float32]]


def run(
    dataset: PairDataset,
    pipelines: Sequence[Pipeline],
    protocols: Sequence[Protocol],
    *,
    keep_in: Path | None,
    fresh: bool = False,
    on_pair: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """Score pipelines that share one extractor on a benchmark; an image's features serve all of them.

    protocols: those to score under, one prediction serving all. keep_in: folder of the predictions of finished pairs,
    which are used again when images, annotations, features, matcher and program are the same; None keeps none.
    fresh: throws away what is kept, first. on_pair: told of every finished pair of every pipeline.

    Raises GeomatchError; pairs finished until then are kept.
    """
    wanted = Wanted(
        backward=any(protocol.direction is Direction.target_to_source for protocol in protocols),
        regions=dataset.name in REGION_BENCHMARKS,
    )
    selections: list[_Selection] = []
    try:
        for pipeline in pipelines:
            store = _open_store(selection_file(keep_in, dataset, pipeline), fresh=fresh) if keep_in else None
            selections.append(_Selection(dataset, pipeline, protocols, wanted, store))
        features = _Features(dataset.pairs, selections)
        for index, pair in enumerate(dataset.pairs):
            described = features.of(pair) if index in features.missing else None
            for selection in selections:
                prediction = selection.kept(index)
                if prediction is None:
                    assert described is not None, "features are computed for every pair that is not kept"
                    prediction = selection.predict(index, *described)
                selection.score(prediction)
                on_pair()
    finally:
        for selection in selections:
            selection.close()
    return [selection.outcome(features) for selection in selections]


class _Features:
    """The features of the pairs that at least one selection has no prediction of."""

    def __init__(self, pairs: Sequence[AnnotatedPair], selections: Sequence[_Selection]) -> None:
        self.watch = Timer()
        self.pipelines = [selection.pipeline for selection in selections]
        self.missing = set[int]().union(*(selection.missing for selection in selections))
        used = [pairs[index] for index in sorted(self.missing)]
        self.cache = FeatureCache(self._describe, [image for pair in used for image in (pair.source, pair.target)])

    def of(self, pair: AnnotatedPair) -> tuple[FeatureMap, FeatureMap]:
        return self.cache(pair.source), self.cache(pair.target)

    def _describe(self, image: PairImage) -> FeatureMap:
        with self.watch.stage("reading"):
            pixels = image.load()
        with self.watch.stage("extraction"):
            described = self.pipelines[0].extract(pixels)
            for pipeline in self.pipelines[1:]:
                described = pipeline.prepare(described, pixels)
            return described


class _Selection:
    """One pipeline's predictions on a benchmark: kept ones where there are, new ones elsewhere."""

    def __init__(
        self,
        dataset: PairDataset,
        pipeline: Pipeline,
        protocols: Sequence[Protocol],
        wanted: Wanted,
        store: PredictionStore | None,
    ) -> None:
        self.dataset, self.pipeline, self.wanted, self.store = dataset, pipeline, wanted, store
        self.board = Scoreboard(dataset.name, dataset.pairs, protocols)
        self.watch = Timer()
        self.keys = [pair_key(pair, wanted) for pair in dataset.pairs]
        kept = store.keys() if store else set()
        self.missing = {index for index, key in enumerate(self.keys) if key not in kept}

    def kept(self, index: int) -> Prediction | None:
        if self.store is None or index in self.missing:
            return None
        arrays = self.store.get(self.keys[index])
        return Prediction.from_arrays(arrays) if arrays else None

    def predict(self, index: int, source: FeatureMap, target: FeatureMap) -> Prediction:
        """Match the pair, and keep what was found."""
        with self.watch.stage("scoring"):
            prediction = predict(self.dataset.pairs[index], source, target, self._match, self.wanted)
            self._keep(self.keys[index], prediction)
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

    def _match(self, source: FeatureMap, target: FeatureMap) -> Correspondence:
        with self.watch.stage("matching"):
            return self.pipeline.match(source, target)

    def _keep(self, key: str, prediction: Prediction) -> None:
        if self.store is None:
            return
        try:
            self.store.put(key, prediction.to_arrays())
        except InputError as error:
            self.close()
            self.store = None
            warnings.warn(f"{error}; the run goes on, but keeps no more predictions", GeomatchWarning, stacklevel=2)


def selection_file(folder: Path, dataset: PairDataset, pipeline: Pipeline) -> Path:
    """Where the predictions of a pipeline on a benchmark are kept: another file for whatever may change them."""
    settings = pipeline.settings() | {
        "weights": pipeline.extractor.weights_sha256,
        "version": geomatch.__version__,
        "program": source_sha256(pipeline, pipeline.extractor, pipeline.matcher),
        "torch": torch.__version__,
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
    name = "-".join((dataset.name, pipeline.extractor.name, pipeline.matcher_name, digest[:16]))
    return folder / (re.sub(r"[^\w.+-]", "_", name) + ".sqlite")


def pair_key(pair: AnnotatedPair, wanted: Wanted) -> str:
    """Changes when the pair's images or annotations, or what is wanted of it, change."""
    annotation_files = [
        (path.name, (state := path.stat()).st_size, state.st_mtime_ns) for path in pair.annotation_files
    ]
    known = (
        pair.source.fingerprint(),
        pair.target.fingerprint(),
        pair.source_points.tolist(),
        pair.target_points.tolist(),
        pair.source_box,
        annotation_files,
        wanted,
    )
    return hashlib.sha256(repr(known).encode()).hexdigest()


def _open_store(path: Path, *, fresh: bool) -> PredictionStore | None:
    try:
        if fresh:
            PredictionStore.delete(path)
        return PredictionStore(path)
    except InputError as error:
        warnings.warn(f"{error}; the run goes on, but keeps no predictions", GeomatchWarning, stacklevel=3)
        return None
