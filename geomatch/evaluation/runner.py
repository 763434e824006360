"""Predict every pair of a benchmark once, cache the predictions, and score them."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import geomatch
from geomatch.datasets.pairs import AnnotatedPair, PairDataset
from geomatch.datasets.pascal_ilsvrc import voc_class
from geomatch.errors import GeomatchError, GeomatchWarning, InputError
from geomatch.evaluation.prediction import Prediction, PredictionOptions
from geomatch.evaluation.prediction_job import PredictionJob, WantedPair, class_of
from geomatch.evaluation.protocols import Direction, Protocol
from geomatch.evaluation.results import Evaluation
from geomatch.evaluation.scoreboard import Scoreboard
from geomatch.io.predictions import PredictionStore
from geomatch.pipeline import Pipeline
from geomatch.runtime.engines.engine import Engine, LocalEngine
from geomatch.runtime.parallel_map import Finished
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


@dataclass(frozen=True)
class Work:
    """Who predicts, and what that takes: the dataset and the pipelines, which are made again in each process."""

    engine: Engine
    dataset: Callable[[], PairDataset]
    pipelines: Callable[[], Sequence[Pipeline]]


def run(
    dataset: PairDataset,
    pipelines: Sequence[Pipeline],
    protocols: Sequence[Protocol],
    *,
    cache: Path | None,
    fresh: bool = False,
    on_pair: Callable[[], None] = lambda: None,
    work: Work | None = None,
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
        work: who predicts; by default this process.

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
    work = work or Work(LocalEngine(), lambda: dataset, lambda: pipelines)
    selections: list[_Selection] = []
    shared, extractions = Timer(), 0
    try:
        for pipeline in pipelines:
            store = _open_store(selection_file(cache, dataset, pipeline), fresh=fresh) if cache else None
            selections.append(_Selection(dataset, pipeline, protocols, options, store))
        wanted = _wanted(dataset, selections)
        predicted = work.engine.run(PredictionJob(work.dataset, work.pipelines, options), list(wanted.values()))
        for index in range(len(dataset.pairs)):
            new = _record(next(predicted)) if index in wanted else _NOTHING_NEW
            shared.add(new["shared"])
            extractions += new["extractions"]
            for number, selection in enumerate(selections):
                selection.score(index, new["predictions"].get(number), new["seconds"].get(number, {}))
                on_pair()
    finally:
        for selection in selections:
            selection.close()
    return [selection.outcome(extractions, shared) for selection in selections]


_NOTHING_NEW: dict[str, Any] = {"predictions": {}, "seconds": {}, "shared": {}, "extractions": 0}


def _wanted(dataset: PairDataset, selections: Sequence[_Selection]) -> dict[int, WantedPair]:
    """The pairs that at least one selection has no cached prediction of, by place."""
    found = {}
    for place, pair in enumerate(dataset.pairs):
        missing = [number for number, selection in enumerate(selections) if place in selection.missing]
        if missing:
            found[place] = WantedPair(place, missing, (pair.source.name, pair.target.name))
    return found


def _record(finished: Finished) -> dict[str, Any]:
    if finished.failed:
        raise GeomatchError(finished.record["error"])
    return finished.record


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
        self.dataset, self.pipeline, self.store = dataset, pipeline, store
        self._saving = store is not None
        self.board = Scoreboard(dataset.name, dataset.pairs, protocols)
        self.watch = Timer()
        self.keys = [pair_key(pair, options, class_of(pair, pipeline)) for pair in dataset.pairs]
        cached = store.keys() if store else set()
        self.missing = {index for index, key in enumerate(self.keys) if key not in cached}

    def score(self, index: int, new: Prediction | None, seconds: Mapping[str, float]) -> None:
        """Score a pair by its new prediction, which took so many seconds and is cached, else by the cached one."""
        self.watch.add(seconds)
        with self.watch.stage("scoring"):
            if new is not None:
                self._save(self.keys[index], new)
            self.board.add(new or self._cached(index))

    def _cached(self, index: int) -> Prediction:
        assert self.store is not None, "what is not missing is in the store"
        return Prediction.from_arrays(self.store.get(self.keys[index]) or {})

    def outcome(self, extractions: int, shared: Timer) -> Outcome:
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
            extractions=extractions,
            seconds=shared.record() | self.watch.record(),
            pair_list=self.board.pair_list(),
        )
        return Outcome(evaluation, self.board.forward, self.board.relative_errors)

    def close(self) -> None:
        if self.store is not None:
            self.store.close()

    def _save(self, key: str, prediction: Prediction) -> None:
        if self.store is None or not self._saving:
            return
        try:
            self.store.put(key, prediction.to_arrays())
        except InputError as error:
            self._saving = False
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
