"""Predict every pair of a benchmark once and score it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from geomatch import __version__
from geomatch.correspondence import Correspondence
from geomatch.datasets.pairs import AnnotatedPair, PairDataset
from geomatch.evaluation.metrics import correct_keypoints
from geomatch.evaluation.protocols import HOUSE, Average, Protocol
from geomatch.io.images import load_image
from geomatch.pipeline import Pipeline


@dataclass(frozen=True)
class PairScore:
    """Which keypoints of a pair were found, (alphas, K) bool."""

    category: str
    correct: NDArray[np.bool_]


@dataclass(frozen=True)
class ClassScore:
    pairs: int
    pck: float


@dataclass(frozen=True)
class Result:
    """One number of a benchmark, a fraction in [0, 1], and the same for each class."""

    protocol: str
    average: Average
    alpha: float
    pck: float
    per_class: dict[str, ClassScore]


@dataclass(frozen=True)
class Evaluation:
    """A run over a benchmark: what was scored, how, and the scores."""

    dataset: str
    split: str
    pairs: int
    keypoints: int
    features: str
    weights: str | None
    matcher: str
    settings: dict[str, object]
    version: str
    results: list[Result]


def run(dataset: PairDataset, pipeline: Pipeline, on_pair: Callable[[], None]) -> Evaluation:
    """Score a pipeline on a benchmark by the house protocol. ``on_pair`` is told of every finished pair."""
    protocol = HOUSE[dataset.name]
    describe = cache(lambda path: pipeline.describe(load_image(path)))  # each image once
    scores = []
    for pair in dataset.pairs:
        correspondence = pipeline.match(describe(pair.source), describe(pair.target))
        scores.append(score_pair(pair, correspondence, protocol))
        on_pair()
    return Evaluation(
        dataset=dataset.name,
        split=dataset.split,
        pairs=len(dataset.pairs),
        keypoints=dataset.keypoints,
        features=pipeline.extractor.name,
        weights=pipeline.extractor.weights_sha256,
        matcher=pipeline.matcher.name,
        settings=pipeline.settings(),
        version=__version__,
        results=summarise(scores, protocol),
    )


def score_pair(pair: AnnotatedPair, correspondence: Correspondence, protocol: Protocol) -> PairScore:
    """Send a pair's source keypoints through a correspondence and compare them with its target keypoints."""
    predicted = correspondence.transfer(torch.from_numpy(pair.source_points)).double().cpu().numpy()
    length = protocol.length(pair)
    return PairScore(
        pair.category,
        np.stack([correct_keypoints(predicted, pair.target_points, length, alpha) for alpha in protocol.alphas]),
    )


def summarise(scores: list[PairScore], protocol: Protocol) -> list[Result]:
    """Means over all pairs and over those of each class, for every average and threshold of the protocol."""
    classes: defaultdict[str, list[PairScore]] = defaultdict(list)
    for score in scores:
        classes[score.category].append(score)
    return [
        Result(
            protocol=protocol.name,
            average=average,
            alpha=alpha,
            pck=_mean(scores, average, index),
            per_class={
                name: ClassScore(len(members), _mean(members, average, index))
                for name, members in sorted(classes.items())
            },
        )
        for average in protocol.averages
        for index, alpha in enumerate(protocol.alphas)
    ]


def _mean(scores: list[PairScore], average: Average, alpha_index: int) -> float:
    correct = [score.correct[alpha_index] for score in scores]
    if average is Average.per_point:
        return float(np.concatenate(correct).mean())
    return float(np.mean([each.mean() for each in correct]))
