"""Fit the confidence model to validation pairs, and measure its calibration.

    python scripts/fit_calibration.py --dataset spair-71k=DIR --dataset animal-parts=DIR [--weights FILE]
    python scripts/fit_calibration.py ... --also pf-willow=DIR        # measured, but not fitted to

At every source keypoint of the validation pairs the script reads the match cues, and whether the match is right at
alpha = .1 under our own protocol. Logistic regression, in which every benchmark and matcher has the same weight, gives
the constants of `geomatch.correspondence.ConfidenceModel`, printed as they stand in the code. Features without sigma
use `fixed_sigma` instead; for them the best such constant is printed, too.

The table compares three rankings: by the score alone, by confidence with the constants in the code, and by confidence
with the fitted constants. AUSE: area between the sparsification curve and the best possible one. ECE: mean gap between
confidence and share of right matches, 15 bins; "of chance" is the ECE of as many points whose confidence is true. The
script interpolates cues between cells, `geomatch eval` interpolates confidence; so their numbers differ a little.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.optimize import minimize, minimize_scalar
from torch import Tensor

from geomatch.correspondence import ConfidenceModel, FeatureMap
from geomatch.datasets.load import load_dataset
from geomatch.datasets.pairs import AnnotatedPair, PairDataset, PairImage
from geomatch.evaluation.metrics.calibration import area_under_sparsification_error, calibration, sparsification
from geomatch.evaluation.prediction import Prediction
from geomatch.evaluation.protocols import default_protocol
from geomatch.evaluation.scoreboard import CONFIDENCE_ALPHA
from geomatch.geometry.grid import read_cells
from geomatch.matching.base import MatchContext
from geomatch.matching.confidence import MatchCues, compute_cues, match_probability
from geomatch.matching.densify import densify
from geomatch.pipeline import Pipeline
from geomatch.registry import MATCHERS
from geomatch.runtime.feature_cache import FeatureCache

SMALLEST_WEIGHT = 0.01
"""Of every cue: none may change the confidence in the wrong direction."""


@dataclass(frozen=True)
class Sample:
    """Cues (N,) at all keypoints of a benchmark under one matcher, and which matches are right (N,) bool."""

    name: str
    cues: MatchCues
    right: Tensor


def collect(dataset: PairDataset, pipeline: Pipeline, matchers: Sequence[str]) -> list[Sample]:
    """One sample a matcher. An image's features are extracted once."""
    pipelines = {name: pipeline.with_matcher(name) for name in matchers}

    def extract(image: PairImage) -> FeatureMap:
        pixels = image.load()
        features = pipeline.extract(pixels)
        for each in pipelines.values():
            features = each.prepare(features, pixels)
        return features

    features = FeatureCache(extract, [image for pair in dataset.pairs for image in (pair.source, pair.target)])
    read: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in matchers}
    for pair in track(dataset.pairs, dataset.name, console=Console(stderr=True)):
        source, target = features(pair.source), features(pair.target)
        for name, pairs in read.items():
            pairs.append(cues_at_keypoints(dataset.name, pair, source, target, pipelines[name]))
    return [
        Sample(f"{dataset.name}, {name}", MatchCues(*torch.cat(cues, dim=1)), torch.cat(right))
        for name, pairs in read.items()
        for cues, right in (zip(*pairs, strict=True),)
    ]


def cues_at_keypoints(
    benchmark: str, pair: AnnotatedPair, source: FeatureMap, target: FeatureMap, pipeline: Pipeline
) -> tuple[Tensor, Tensor]:
    """Cues (5, K) at a pair's source keypoints, and which of their matches are right (K,)."""
    densification = pipeline.densification
    context = MatchContext(*pipeline.upsample(source, target), pipeline.max_bytes)
    source, target = context.source, context.target
    forward, backward = pipeline.matcher(context)
    keypoints = torch.from_numpy(pair.source_points)
    mapped = densify(context, forward, backward, densification).map_points(keypoints).positions
    points = forward.at(source.grid.centres(forward.positions.device))
    cues = compute_cues(context, points, densification.cues, context.similarity).stacked()
    maps = cues.reshape(1, -1, *source.grid.shape).cpu()
    at_keypoints = read_cells(maps, source.grid.to_cells(keypoints.float())[None])[0]
    prediction = Prediction(source.image_size, target.image_size, mapped, mapped, np.ones(len(mapped)))
    protocol = default_protocol(benchmark)
    right = protocol.errors(pair, prediction) <= CONFIDENCE_ALPHA * protocol.threshold_length(pair, prediction)
    return at_keypoints, torch.from_numpy(right)


def fit_model(samples: Sequence[Sample]) -> ConfidenceModel:
    """The constants that maximise the likelihood of which matches are right."""
    tables = [
        torch.stack(
            [
                (2 * e.score - 1) / e.sigma,
                1 / e.sigma,
                e.peakedness,
                e.neighbour_agreement,
                -e.hubness,
                torch.ones_like(e.score),
            ]
        ).mT.double()
        for e in (sample.cues for sample in samples)
    ]

    def loss(constants: NDArray[np.float64]) -> float:
        return mean_loss([table @ torch.from_numpy(constants) for table in tables], samples)

    bounds = [(SMALLEST_WEIGHT, None)] * 5 + [(None, None)]
    sharpness, *others = minimize(loss, [0.2, 0.5, 2, 2, 0.5, -5], method="L-BFGS-B", bounds=bounds).x
    return ConfidenceModel(*(round(float(value), 3) for value in (1 / sharpness, *others)))


def fit_fixed_sigma(samples: Sequence[Sample], model: ConfidenceModel) -> float:
    """The one sigma that maximises the likelihood of which matches are right under a model."""

    def loss(sigma: float) -> float:
        known = (replace(each.cues, sigma=torch.full_like(each.cues.sigma, sigma)) for each in samples)
        return mean_loss([torch.logit(match_probability(cues, model).double(), eps=1e-9) for cues in known], samples)

    return round(float(minimize_scalar(loss, bounds=(0.02, 2), method="bounded").x), 3)


def mean_loss(log_odds: Sequence[Tensor], samples: Sequence[Sample]) -> float:
    """The mean negative log-likelihood of a match, averaged over samples."""
    signs = (2.0 * sample.right - 1 for sample in samples)
    return float(
        np.mean([float(-torch.nn.functional.logsigmoid(s * o).mean()) for s, o in zip(signs, log_odds, strict=True)])
    )


def measures(sample: Sample, model: ConfidenceModel | None) -> list[str]:
    """AUSE, ECE, ECE of chance, share right in the confident half, among all, and their difference.

    Without a model matches are ranked by the score alone.
    """
    cues = sample.cues
    confidence = (cues.score if model is None else match_probability(cues, model)).double().numpy()
    right = sample.right.numpy()
    wrong = (~right).astype(np.float64)
    half = 1 - sparsification(wrong, confidence, [0.5])[0]
    ause = area_under_sparsification_error(wrong, confidence)
    errors = ["", ""]
    if model is not None:
        drawn = np.random.default_rng(0).random((100, len(right))) < confidence
        chance = np.mean([calibration(each, confidence).expected_calibration_error for each in drawn])
        errors = [f"{calibration(right, confidence).expected_calibration_error:.3f}", f"{chance:.3f}"]
    return [f"{ause:.3f}", *errors, f"{half:.3f}", f"{right.mean():.3f}", f"{half - right.mean():+.3f}"]


def named_folder(text: str) -> tuple[str, Path]:
    name, given, folder = text.partition("=")
    if not given:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=DIR")
    return name, Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=named_folder, action="append", required=True, metavar="NAME=DIR")
    parser.add_argument("--also", type=named_folder, action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--matcher", choices=MATCHERS.entries, action="append", help="by default nn and hough")
    parser.add_argument("--features", default="introspection")
    parser.add_argument("--weights", type=Path)
    options = parser.parse_args()

    matchers = options.matcher or ["nn", "hough"]
    pipeline = Pipeline(features=options.features, weights=options.weights)
    fitted_to = [
        t for name, root in options.dataset for t in collect(load_dataset(name, root, split="val"), pipeline, matchers)
    ]
    others = [t for name, root in options.also for t in collect(load_dataset(name, root), pipeline, matchers)]
    shipped = pipeline.extractor.calibration
    console = Console(width=120)
    fixed_sigma = torch.tensor(shipped.fixed_sigma)
    if all(torch.allclose(t.cues.sigma, fixed_sigma) for t in fitted_to):
        console.print(f"fixed_sigma = {fit_fixed_sigma(fitted_to, shipped)}, the other constants unchanged")
    fitted = fit_model(fitted_to)
    console.print(str(fitted), soft_wrap=True)

    table = Table(title=f"{options.features}, right at alpha = {CONFIDENCE_ALPHA}", title_justify="left")
    for column in ("pairs", "ranked by", "AUSE", "ECE", "of chance", "confident half", "all", "gain"):
        table.add_column(column, justify="left" if column in ("pairs", "ranked by") else "right")
    for sample in [*fitted_to, *others]:
        for label, model in (("the score", None), ("confidence, as in the code", shipped), ("as fitted", fitted)):
            table.add_row(sample.name, label, *measures(sample, model))
        table.add_section()
    console.print(table)


if __name__ == "__main__":
    main()
