"""The validation score of a network in training: PCK of nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence

from geomatch.datasets.pairs import PairDataset
from geomatch.evaluation.protocols import default_protocol
from geomatch.evaluation.runner import run
from geomatch.features.anchornet import AnchorFeatures, AnchorNet
from geomatch.features.base import FeatureExtractor
from geomatch.features.introspection import IntrospectionFeatures, IntrospectionNet
from geomatch.features.scnet import SCNet, SCNetFeatures
from geomatch.options import PRESETS, Preset
from geomatch.pipeline import Pipeline

ALPHA = 0.1


def validation_score(network: IntrospectionNet | AnchorNet, benchmarks: Sequence[PairDataset]) -> float:
    """The mean over benchmarks of PCK@.10 in [0, 1], with protocol ``geomatch``, matcher ``nn``, preset ``default``.

    Of an AnchorNet its class-agnostic code is scored, of an SCNet its embeddings with ``scnet-a`` or ``scnet-ag+``.
    """
    size = PRESETS[Preset.default].working_size
    extractor: FeatureExtractor
    matcher = "nn"
    if isinstance(network, AnchorNet):
        extractor = AnchorFeatures(network, size)
    elif isinstance(network, SCNet):
        extractor = SCNetFeatures(network, size)
        matcher = "scnet-a" if network.geometry is None else "scnet-ag+"
    else:
        extractor = IntrospectionFeatures(network, size)
    pipeline = Pipeline(features=extractor, matcher=matcher, device=next(network.parameters()).device)
    scores = [_score(benchmark, pipeline) for benchmark in benchmarks]
    network.train()
    return sum(scores) / len(scores)


def _score(benchmark: PairDataset, pipeline: Pipeline) -> float:
    evaluation = run(benchmark, [pipeline], [default_protocol(benchmark.name)], cache=None)[0].evaluation
    return next(result.pck for result in evaluation.results if result.alpha == ALPHA)
