"""Fit the rule by which `--mirror auto` decides to validation pairs, and measure what it gains.

    python scripts/fit_mirror.py --dataset spair-71k=DIR --dataset animal-parts=DIR [--features F] [--matcher M]

Every validation pair is matched twice, as it is and with its source flipped left to right. PCK is at alpha = .1 under
our own protocol; the script reads displacements between cells, `geomatch eval` reads the flow. Logistic regression of
which of the two is better, each pair weighted by the difference of their PCK and each benchmark equally, gives the
constants of `geomatch.matching.mirror.MirrorModel`, printed as they stand in the code.

The table has a row for the pairs that see their objects from the same side, and one for those from opposite sides. off,
on: never and always flipped. rule: by the rule, fitted without the tenth of the pairs that it is applied to. by side:
flipped if and only if the keypoints show opposite sides. best: the better of the two matches of each pair.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from fit_calibration import named_folder
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.optimize import minimize

from geomatch.correspondence import FeatureMap
from geomatch.datasets.load import load_dataset
from geomatch.datasets.pairs import AnnotatedPair, PairDataset, PairImage, mirror_points
from geomatch.evaluation.metrics.side import seen_from_opposite_sides
from geomatch.evaluation.prediction import Prediction
from geomatch.evaluation.protocols import default_protocol
from geomatch.evaluation.scoreboard import CONFIDENCE_ALPHA, SIDES
from geomatch.matching.base import MatchContext
from geomatch.matching.mirror import MirrorModel, mirror_gain
from geomatch.pipeline import Pipeline
from geomatch.registry import MATCHERS
from geomatch.runtime.feature_cache import FeatureCache

FOLDS = 10

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """The pairs of a benchmark. gain (N,): what the rule reads. off, on (N,): PCK of a pair as it is, and with its
    source flipped. opposite (N,) bool: seen from opposite sides."""

    name: str
    gain: Values
    off: Values
    on: Values
    opposite: NDArray[np.bool_]


def collect(dataset: PairDataset, pipeline: Pipeline) -> Sample:
    """Match every pair both ways. An image's features are extracted once."""

    def extract(image: PairImage) -> FeatureMap:
        return pipeline.extract(image.load())

    features = FeatureCache(extract, [image for pair in dataset.pairs for image in (pair.source, pair.target)])
    gain, off, on = [], [], []
    for pair in track(dataset.pairs, dataset.name, console=Console(stderr=True)):
        source, target = pipeline.upsample(features(pair.source), features(pair.target))
        assert source.mirrored is not None, "the pipeline's mirror is not off"
        points, flipped_points = pair.source_points, mirror_points(pair.source_points, source.image_size[1])
        gain.append(mirror_gain(source, target, pipeline.max_bytes))
        off.append(share_right(dataset.name, pair, points, (source, target), pipeline))
        on.append(share_right(dataset.name, pair, flipped_points, (source.mirrored, target), pipeline))
    opposite = [seen_from_opposite_sides(pair.source_points, pair.target_points) is True for pair in dataset.pairs]
    return Sample(dataset.name, np.array(gain), np.array(off), np.array(on), np.array(opposite))


def share_right(
    benchmark: str,
    pair: AnnotatedPair,
    keypoints: NDArray[np.float64],
    features: tuple[FeatureMap, FeatureMap],
    pipeline: Pipeline,
) -> float:
    """PCK of a pair, its source's ``keypoints`` (K, 2) in the frame of its ``features``."""
    source, target = features
    forward, _ = pipeline.matcher(MatchContext(source, target, pipeline.max_bytes))
    mapped = forward.at(torch.from_numpy(keypoints).to(forward.positions)).double().cpu().numpy()
    prediction = Prediction(source.image_size, target.image_size, mapped, mapped, np.ones(len(mapped)))
    return float(default_protocol(benchmark).correct(pair, prediction, CONFIDENCE_ALPHA).mean())


def fit_rule(samples: Sequence[Sample]) -> MirrorModel:
    """The constants that maximise the likelihood of which match is better, weighted by how much."""
    differences = [each.on - each.off for each in samples]

    def loss(constants: Values) -> float:
        weight, prior = constants
        return sum(
            float(
                (np.abs(d) * np.logaddexp(0, -np.sign(d) * (weight * each.gain + prior))).sum() / (np.abs(d).sum() or 1)
            )
            for each, d in zip(samples, differences, strict=True)
        )

    weight, prior = minimize(loss, [1.0, 0.0], method="L-BFGS-B", bounds=[(0, None), (None, None)]).x
    return MirrorModel(round(float(weight), 2), round(float(prior), 2))


def cross_validated(samples: Sequence[Sample]) -> list[NDArray[np.bool_]]:
    """Which pairs of each sample are flipped by a rule that is fitted to the other folds."""
    flipped = [np.zeros(len(each.gain), bool) for each in samples]
    for fold in range(FOLDS):
        held_out = [np.arange(len(each.gain)) % FOLDS == fold for each in samples]
        rule = fit_rule([subset(each, ~out) for each, out in zip(samples, held_out, strict=True)])
        for each, out, found in zip(samples, held_out, flipped, strict=True):
            found[out] = [rule.probability(gain) > 0.5 for gain in each.gain[out]]
    return flipped


def subset(sample: Sample, members: NDArray[np.bool_]) -> Sample:
    return Sample(sample.name, sample.gain[members], sample.off[members], sample.on[members], sample.opposite[members])


def area_under_curve(gain: Values, opposite: NDArray[np.bool_]) -> float:
    """The probability that the gain of a pair from opposite sides exceeds that of one from the same side."""
    higher = gain[opposite][:, None] - gain[~opposite]
    return float(((np.sign(higher) + 1) / 2).mean()) if higher.size else float("nan")


def rows(sample: Sample, flipped: NDArray[np.bool_]) -> list[list[str]]:
    """A row for all pairs, and for each side: pairs, share flipped, and PCK off, on, by the rule, by side, and best."""
    off, on, opposite = sample.off, sample.on, sample.opposite
    chosen = off, on, np.where(flipped, on, off), np.where(opposite, on, off), np.maximum(off, on)
    groups = {"all": np.full(len(off), True), SIDES[False]: ~opposite, SIDES[True]: opposite}
    return [
        [sample.name, name, str(members.sum()), f"{flipped[members].mean():.2f}"]
        + [f"{each[members].mean():.3f}" for each in chosen]
        for name, members in groups.items()
        if members.any()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=named_folder, action="append", required=True, metavar="NAME=DIR")
    parser.add_argument("--features", default="combined")
    parser.add_argument("--matcher", choices=MATCHERS.entries, default="nn")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--cache", type=Path, help="folder that stores features")
    options = parser.parse_args()

    pipeline = Pipeline(
        features=options.features, matcher=options.matcher, weights=options.weights, cache=options.cache
    ).with_mirror("on")
    samples = [collect(load_dataset(name, root, split="val"), pipeline) for name, root in options.dataset]
    console = Console(width=120)
    console.print(str(fit_rule(samples)), soft_wrap=True)
    for sample in samples:
        console.print(
            f"{sample.name}: area under ROC of opposite sides {area_under_curve(sample.gain, sample.opposite):.3f}"
        )
    table = Table(title=f"{options.features}, {options.matcher}: PCK@{CONFIDENCE_ALPHA}", title_justify="left")
    for column in ("benchmark", "side", "pairs", "flipped", "off", "on", "rule", "by side", "best"):
        table.add_column(column, justify="left" if column in ("benchmark", "side") else "right")
    for sample, flipped in zip(samples, cross_validated(samples), strict=True):
        for row in rows(sample, flipped):
            table.add_row(*row)
        table.add_section()
    console.print(table)


if __name__ == "__main__":
    main()
