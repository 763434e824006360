"""Fit what confidence is made of to validation pairs, and measure how far it can be trusted.

    python scripts/fit_calibration.py --dataset spair-71k=DIR --dataset animal-parts=DIR [--weights FILE]
    python scripts/fit_calibration.py ... --also pf-willow=DIR        # measured, too, but not fitted to

At every source keypoint of the validation pairs the evidence for its match is read, and whether the match is right at
alpha = .1, house protocol. Logistic regression, in which every benchmark and matcher weighs the same, gives the
constants of `geomatch.correspondence.ConfidenceModel`, printed as they stand in the code; for features that know no
sigma `fixed_sigma` stands for it, and the best such constant is printed, too.

The table compares the score alone, confidence with the constants in the code, and with those fitted. AUSE: area between
the sparsification curve and the best possible one. ECE: mean gap between confidence and share right, 15 bins; "of
chance" is the ECE that so few points would show if every confidence were true. MatchCues is interpolated between cells,
`geomatch eval` interpolates the confidence itself, so that its numbers differ a little.
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
from geomatch.datasets.pairs import AnnotatedPair, PairDataset
from geomatch.evaluation.metrics.calibration import area_under_sparsification_error, calibration, sparsification
from geomatch.evaluation.prediction import Prediction
from geomatch.evaluation.protocols import house_protocol
from geomatch.evaluation.scoreboard import CONFIDENCE_ALPHA
from geomatch.geometry.grid import read_cells
from geomatch.matching.confidence import MatchCues, compute_cues, match_probability
from geomatch.matching.context import MatchContext
from geomatch.matching.densify import densify
from geomatch.pipeline import Pipeline
from geomatch.registry import MATCHERS
from geomatch.runtime.feature_cache import FeatureCache

SMALLEST_WEIGHT = 0.01
"""No witness may speak against what it stands for."""


@dataclass(frozen=True)
class Statement:
    """The evidence (N,) at all keypoints of a benchmark under one matcher, and which matches are right (N,) bool."""

    name: str
    evidence: MatchCues
    right: Tensor


def collect(dataset: PairDataset, pipeline: Pipeline, matchers: Sequence[str]) -> list[Statement]:
    """One statement a matcher. An image's features are computed once."""
    images = [image for pair in dataset.pairs for image in (pair.source, pair.target)]
    features = FeatureCache(lambda image: pipeline.extract(image.load()), images)
    read: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in matchers}
    for pair in track(dataset.pairs, dataset.name, console=Console(stderr=True)):
        described = features(pair.source), features(pair.target)
        for name, pairs in read.items():
            pairs.append(take_statement(dataset.name, pair, *described, pipeline.with_matcher(name)))
    return [
        Statement(f"{dataset.name}, {name}", MatchCues(*torch.cat(evidence, dim=1)), torch.cat(right))
        for name, pairs in read.items()
        for evidence, right in (zip(*pairs, strict=True),)
    ]


def take_statement(
    benchmark: str, pair: AnnotatedPair, source: FeatureMap, target: FeatureMap, pipeline: Pipeline
) -> tuple[Tensor, Tensor]:
    """MatchCues (5, K) at a pair's source keypoints, and which of their matches are right (K,)."""
    how = pipeline.densification
    context = MatchContext(*pipeline.upsample(source, target), pipeline.max_bytes)
    source, target = context.source, context.target
    there, back = pipeline.matcher(context)
    points = torch.from_numpy(pair.source_points)
    sent = densify(context, there, back, how).map_points(points).positions
    landing = there.at(source.grid.centres(there.positions.device))
    evidence = compute_cues(source, target, landing, how.cues, context.max_bytes).stacked()
    maps = evidence.reshape(1, -1, *source.grid.shape).cpu()
    at_points = read_cells(maps, source.grid.to_cells(points.float())[None])[0]
    prediction = Prediction(source.image_size, target.image_size, sent, sent, np.ones(len(sent)))
    house = house_protocol(benchmark)
    right = house.errors(pair, prediction) <= CONFIDENCE_ALPHA * house.threshold_length(pair, prediction)
    return at_points, torch.from_numpy(right)


def fit_posterior(statements: Sequence[Statement]) -> ConfidenceModel:
    """The constants under which what is right and wrong is likeliest."""
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
        for e in (statement.evidence for statement in statements)
    ]

    def surprise(constants: NDArray[np.float64]) -> float:
        return mean_surprise([table @ torch.from_numpy(constants) for table in tables], statements)

    bounds = [(SMALLEST_WEIGHT, None)] * 5 + [(None, None)]
    sharpness, *others = minimize(surprise, [0.2, 0.5, 2, 2, 0.5, -5], method="L-BFGS-B", bounds=bounds).x
    return ConfidenceModel(*(round(float(value), 3) for value in (1 / sharpness, *others)))


def fit_fixed_sigma(statements: Sequence[Statement], posterior: ConfidenceModel) -> float:
    """The one sigma under which what is right and wrong is likeliest, all else being as it is."""

    def surprise(sigma: float) -> float:
        known = (replace(t.evidence, sigma=torch.full_like(t.evidence.sigma, sigma)) for t in statements)
        return mean_surprise(
            [torch.logit(match_probability(evidence, posterior).double(), eps=1e-9) for evidence in known], statements
        )

    return round(float(minimize_scalar(surprise, bounds=(0.02, 2), method="bounded").x), 3)


def mean_surprise(log_odds: Sequence[Tensor], statements: Sequence[Statement]) -> float:
    """The negative log-likelihood of a match, the mean over statements."""
    signs = (2.0 * statement.right - 1 for statement in statements)
    return float(
        np.mean([float(-torch.nn.functional.logsigmoid(s * o).mean()) for s, o in zip(signs, log_odds, strict=True)])
    )


def measures(statement: Statement, posterior: ConfidenceModel | None) -> list[str]:
    """AUSE, ECE, ECE of chance, share right in the confident half and among all; None stands for the score alone."""
    evidence = statement.evidence
    confidence = (evidence.score if posterior is None else match_probability(evidence, posterior)).double().numpy()
    right = statement.right.numpy()
    wrong = (~right).astype(np.float64)
    half = 1 - sparsification(wrong, confidence, [0.5])[0]
    ause = area_under_sparsification_error(wrong, confidence)
    errors = ["", ""]
    if posterior is not None:
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
    if all(torch.allclose(t.evidence.sigma, fixed_sigma) for t in fitted_to):
        console.print(f"fixed_sigma = {fit_fixed_sigma(fitted_to, shipped)}, the constants staying as they are")
    fitted = fit_posterior(fitted_to)
    console.print(str(fitted), soft_wrap=True)

    table = Table(title=f"{options.features}, right at alpha = {CONFIDENCE_ALPHA}", title_justify="left")
    for column in ("pairs", "ranked by", "AUSE", "ECE", "of chance", "confident half", "all", "gain"):
        table.add_column(column, justify="left" if column in ("pairs", "ranked by") else "right")
    for statement in [*fitted_to, *others]:
        for label, posterior in (("the score", None), ("confidence, as in the code", shipped), ("as fitted", fitted)):
            table.add_row(statement.name, label, *measures(statement, posterior))
        table.add_section()
    console.print(table)


if __name__ == "__main__":
    main()
