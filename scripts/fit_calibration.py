"""Fit the confidence model to validation pairs, and measure its calibration.

    python scripts/fit_calibration.py --dataset spair-71k=DIR --dataset animal-parts=DIR
    python scripts/fit_calibration.py ... --preset default --preset fast    # features that serve several presets
    python scripts/fit_calibration.py ... --also pf-willow=DIR        # measured, but not fitted to
    python scripts/fit_calibration.py ... --pairs 100 --cache DIR     # quicker: some pairs of each, features kept
    python scripts/fit_calibration.py ... --pair-only                 # affine and fusion match as before

At every source keypoint of the validation pairs the script reads the match cues, and whether the match is right at
alpha = .1 under our own protocol. Where a preset looks closer at objects, keypoints outside what it looks at are left
out. Logistic regression, in which every benchmark, matcher and preset has the same weight, gives the constants of
`geomatch.correspondence.ConfidenceModel`, printed as they stand in the code: first those of a match alone, then those
in a pair, whose cues depend on the first ones. Features without sigma use `fixed_sigma` instead; for them the best such
constant is printed, too.

The table compares rankings by the score alone, by confidence with the constants in the code, and by confidence with the
fitted constants. Pairs that are fitted to are measured with constants fitted to the others: pair i is in part i modulo
FOLDS, and each part is left out once. AUSE: area between the sparsification curve and the best possible one. ECE: mean
gap between confidence and share of right matches, 15 bins; "of chance" is the ECE of as many points whose confidence is
true. Brier: mean squared difference between confidence and right (1) or wrong (0). The script interpolates cues between
cells, `geomatch eval` interpolates confidence; so their numbers differ a little.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.optimize import minimize, minimize_scalar
from torch import Tensor

from geomatch.correspondence import ConfidenceModel, CueWeights, FeatureMap
from geomatch.datasets.load import load_dataset
from geomatch.datasets.pairs import AnnotatedPair, PairDataset, PairImage
from geomatch.evaluation.metrics.calibration import area_under_sparsification_error, calibration, sparsification
from geomatch.evaluation.prediction import Prediction
from geomatch.evaluation.protocols import default_protocol
from geomatch.evaluation.scoreboard import CONFIDENCE_ALPHA
from geomatch.geometry.grid import read_cells
from geomatch.geometry.view import View
from geomatch.matching.base import MatchContext
from geomatch.matching.confidence import (
    CellMatches,
    CueSettings,
    MatchCues,
    PairCues,
    compute_pair_cues,
    match_log_odds,
    matches_both_ways,
    probability_in_pair,
)
from geomatch.matching.densify import densify
from geomatch.options import Preset, Zoom
from geomatch.pipeline import Pipeline
from geomatch.registry import MATCHERS
from geomatch.runtime.feature_cache import FeatureCache

SMALLEST_WEIGHT = 0.01
"""Of every cue: none may change the confidence in the wrong direction."""

PULL = 0.03
"""Of the weights in a pair towards those of a match alone, for cues of unit variance: so that what is fitted to some
benchmarks holds on others, too.
"""

FOLDS = 5
"""Parts of the pairs, each of which is measured with constants fitted to the others."""


@dataclass(frozen=True)
class Sample:
    """What one matcher finds on a benchmark.

    cues: (N,) each, at all keypoints. right: (N,) bool, which matches are right. pair_of: (N,) int64, the pair of each
    keypoint. pairs: the matches of all cells of every pair, both ways.
    """

    name: str
    cues: MatchCues
    right: Tensor
    pair_of: Tensor
    pairs: Sequence[tuple[CellMatches, CellMatches]]

    def pair_cues(self, model: ConfidenceModel) -> PairCues:
        """The cues (N,) of the pair of each keypoint."""
        cues = [compute_pair_cues(each, model.alone, CueSettings()) for each in self.pairs]
        consistency, extent, cells = torch.tensor([astuple(each) for each in cues]).mT[:, self.pair_of]
        return PairCues(consistency, extent, cells)

    def confidence(self, model: ConfidenceModel) -> Tensor:
        """(N,) in [0, 1]."""
        return probability_in_pair(self.cues, self.pair_cues(model), model)

    def fold(self) -> Tensor:
        """(N,) int64, the part of the pairs that each keypoint belongs to."""
        return self.pair_of % FOLDS

    def at(self, chosen: Tensor) -> Sample:
        """Only the keypoints where ``chosen`` (N,) bool."""
        return replace(
            self,
            cues=MatchCues(*self.cues.stacked()[:, chosen]),
            right=self.right[chosen],
            pair_of=self.pair_of[chosen],
        )


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
    found: dict[str, list[tuple[Tensor, Tensor, tuple[CellMatches, CellMatches]]]] = {name: [] for name in matchers}
    for pair in track(dataset.pairs, dataset.name, console=Console(stderr=True)):
        source, target = features(pair.source), features(pair.target)
        for name, pairs in found.items():
            pairs.append(matches_at_keypoints(dataset.name, pair, source, target, pipelines[name]))
    samples = []
    for name, pairs in found.items():
        cues, right, cells = zip(*pairs, strict=True)
        pair_of = torch.arange(len(right)).repeat_interleave(torch.tensor([len(each) for each in right]))
        samples.append(
            Sample(
                f"{dataset.name}, {pipeline.preset}, {name}",
                MatchCues(*torch.cat(cues, dim=1)),
                torch.cat(right),
                pair_of,
                cells,
            )
        )
    return samples


def matches_at_keypoints(
    benchmark: str, pair: AnnotatedPair, source: FeatureMap, target: FeatureMap, pipeline: Pipeline
) -> tuple[Tensor, Tensor, tuple[CellMatches, CellMatches]]:
    """Cues (5, K) at the keypoints in view, which of their matches are right (K,), and the matches of all cells."""
    densification = pipeline.densification
    context = MatchContext(*pipeline.upsample(source, target), pipeline.max_bytes)
    source, target = context.source, context.target
    forward, backward = pipeline.matcher(context)
    keypoints = torch.from_numpy(pair.source_points)
    mapped = densify(context, forward, backward, densification).map_points(keypoints).positions
    cells = matches_both_ways(context, forward, backward, densification.cues)
    maps = cells[0].cues.stacked().reshape(1, -1, *source.grid.shape).cpu()
    at_keypoints = read_cells(maps, source.grid.to_cells(keypoints.float())[None])[0]
    prediction = Prediction(source.image_size, target.image_size, mapped, mapped, np.ones(len(mapped)))
    protocol = default_protocol(benchmark)
    right = protocol.errors(pair, prediction) <= CONFIDENCE_ALPHA * protocol.threshold_length(pair, prediction)
    seen = in_view(keypoints, source.view)
    return at_keypoints[:, seen], torch.from_numpy(right)[seen], cells


def in_view(points: Tensor, view: View | None) -> Tensor:
    """Which points (K, 2) lie in what is looked at of an image, (K,) bool; all of it without a ``view``."""
    if view is None:
        return torch.ones(len(points), dtype=torch.bool)
    left, top, right, bottom = view
    return ((points >= points.new_tensor([left, top])) & (points <= points.new_tensor([right, bottom]))).all(dim=1)


def fit_model(samples: Sequence[Sample], alone: CueWeights | None = None) -> ConfidenceModel:
    """The constants that maximise the likelihood of which matches are right, of a match alone and then in a pair.

    alone: those of a match alone, if they are kept.
    """
    return fit_in_pair(samples, alone or fit_alone(samples))


def fit_alone(samples: Sequence[Sample]) -> CueWeights:
    """What the cues of a match of any pair weigh."""
    tables = [cue_table(sample) for sample in samples]
    sharpness, *others = maximise_likelihood(tables, samples, [0.2, 0.5, 2, 2, 0.5, -5])
    return CueWeights(*(round(value, 3) for value in (1 / sharpness, *others)))


def fit_in_pair(samples: Sequence[Sample], alone: CueWeights) -> ConfidenceModel:
    """The model with these constants of a match alone, and what the cues weigh in a pair, which is kept close to it."""
    model = ConfidenceModel(alone=alone)
    tables = []
    for sample in samples:
        of_pair = torch.stack(astuple(sample.pair_cues(model)), dim=1).double()
        tables.append(torch.cat([of_pair, cue_table(sample)], dim=1))
    temperature, *others = astuple(alone)
    spread = torch.cat(tables).std(dim=0)
    spread[[0, 1, 2, -1]] = 0  # the pair's cues and the prior are free
    found = maximise_likelihood(tables, samples, [1, 1, 1, 1 / temperature, *others], PULL * spread.square())
    consistency, extent, cells, sharpness, *weights = found
    in_pair = CueWeights(*(round(value, 3) for value in (1 / sharpness, *weights)))
    consistency, extent, cells = (round(value, 3) for value in (consistency, extent, cells))
    return ConfidenceModel(alone, in_pair, consistency, extent, cells)


def cue_table(sample: Sample) -> Tensor:
    """What the weights of cues multiply in the log-odds, (N, 6) float64; the first is 1 / temperature."""
    cues = sample.cues
    columns = [
        (2 * cues.score - 1) / cues.sigma,
        1 / cues.sigma,
        cues.peakedness,
        cues.neighbour_agreement,
        -cues.hubness,
        torch.ones_like(cues.score),
    ]
    return torch.stack(columns, dim=1).double()


def maximise_likelihood(
    tables: Sequence[Tensor], samples: Sequence[Sample], start: Sequence[float], pull: Tensor | None = None
) -> list[float]:
    """Logistic regression: a weight for each column of the tables (N, C) float64; the last one may be negative.

    pull: (C,), what the squared distance of each weight from where it starts is multiplied by in the penalty.
    """
    signs = [2.0 * sample.right - 1 for sample in samples]
    origin = np.array(start)
    strength = np.zeros(len(start)) if pull is None else pull.numpy()

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        log_odds = [table @ torch.from_numpy(weights) for table in tables]
        slopes = [-s * torch.sigmoid(-s * o) for s, o in zip(signs, log_odds, strict=True)]
        gradients = [slope @ table / len(slope) for slope, table in zip(slopes, tables, strict=True)]
        away = weights - origin
        value, gradient = mean_loss(log_odds, samples), torch.stack(gradients).mean(dim=0).numpy()
        return value + float(strength @ np.square(away)), gradient + 2 * strength * away

    bounds = [(SMALLEST_WEIGHT, None)] * (len(start) - 1) + [(None, None)]
    found: list[float] = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x.tolist()
    return found


def cross_validate(samples: Sequence[Sample], alone: CueWeights | None = None) -> list[Tensor]:
    """The confidence (N,) of each sample's matches, with constants fitted to the pairs of the other folds."""
    confidence = [torch.zeros_like(sample.cues.score) for sample in samples]
    for fold in range(FOLDS):
        model = fit_model([sample.at(sample.fold() != fold) for sample in samples], alone)
        for sample, found in zip(samples, confidence, strict=True):
            left_out = sample.fold() == fold
            if left_out.any():
                found[left_out] = sample.at(left_out).confidence(model)
    return confidence


def fit_fixed_sigma(samples: Sequence[Sample], alone: CueWeights) -> float:
    """The one sigma that maximises the likelihood of which matches are right, each alone."""

    def loss(sigma: float) -> float:
        known = (replace(each.cues, sigma=torch.full_like(each.cues.sigma, sigma)) for each in samples)
        return mean_loss([match_log_odds(cues, alone).double() for cues in known], samples)

    return round(float(minimize_scalar(loss, bounds=(0.02, 2), method="bounded").x), 3)


def mean_loss(log_odds: Sequence[Tensor], samples: Sequence[Sample]) -> float:
    """The mean negative log-likelihood of a match, averaged over samples."""
    signs = (2.0 * sample.right - 1 for sample in samples)
    return float(
        np.mean([float(-torch.nn.functional.logsigmoid(s * o).mean()) for s, o in zip(signs, log_odds, strict=True)])
    )


def measures(ranks: Tensor, right: Tensor, *, is_probability: bool) -> list[str]:
    """AUSE, ECE, ECE of chance, Brier score, share right in the confident half, among all, and their difference.

    ranks: (N,) by which matches are ranked. Without a probability there is no ECE and no Brier score.
    """
    confidence, correct = ranks.double().numpy(), right.numpy()
    wrong = (~correct).astype(np.float64)
    half = 1 - sparsification(wrong, confidence, [0.5])[0]
    ause = area_under_sparsification_error(wrong, confidence)
    errors = ["", "", ""]
    if is_probability:
        drawn = np.random.default_rng(0).random((100, len(correct))) < confidence
        chance = np.mean([calibration(each, confidence).expected_calibration_error for each in drawn])
        brier = np.square(confidence - correct).mean()
        errors = [f"{calibration(correct, confidence).expected_calibration_error:.3f}", f"{chance:.3f}", f"{brier:.3f}"]
    return [f"{ause:.3f}", *errors, f"{half:.3f}", f"{correct.mean():.3f}", f"{half - correct.mean():+.3f}"]


def named_folder(text: str) -> tuple[str, Path]:
    name, given, folder = text.partition("=")
    if not given:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=DIR")
    return name, Path(folder)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=named_folder, action="append", required=True, metavar="NAME=DIR")
    parser.add_argument("--also", type=named_folder, action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--preset", choices=list(Preset), action="append", help="repeatable; by default default")
    parser.add_argument("--zoom", choices=list(Zoom), help="by default the preset's")
    parser.add_argument("--features", help="by default the preset's, or those that the weights belong to")
    parser.add_argument("--matcher", choices=MATCHERS.entries, action="append", help="by default nn and the preset's")
    parser.add_argument("--weights", type=Path)
    parser.add_argument(
        "--pairs", type=int, metavar="N", help="at most N pairs of each benchmark, spread over its list"
    )
    parser.add_argument("--pair-only", action="store_true", help="keep the constants of a match alone as in the code")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep features there for later runs")
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    pipelines = [
        Pipeline(
            features=options.features, preset=preset, weights=options.weights, cache=options.cache, zoom=options.zoom
        )
        for preset in options.preset or [Preset.default]
    ]
    if len({pipeline.extractor.name for pipeline in pipelines}) > 1:
        sys.exit("these presets have different features, with constants of their own: name one, or --features")

    def samples_of(name: str, root: Path, split: str | None) -> list[Sample]:
        dataset = load_dataset(name, root, split=split)
        chosen = dataset.limited(options.pairs) if options.pairs else dataset
        return [
            sample
            for pipeline in pipelines
            for sample in collect(chosen, pipeline, options.matcher or ["nn", pipeline.matcher_name])
        ]

    fitted_to = [sample for name, root in options.dataset for sample in samples_of(name, root, "val")]
    others = [sample for name, root in options.also for sample in samples_of(name, root, None)]
    extractor = pipelines[0].extractor
    shipped = extractor.calibration
    console = Console(width=120)
    fixed_sigma = torch.tensor(shipped.fixed_sigma)
    if all(torch.allclose(sample.cues.sigma, fixed_sigma) for sample in fitted_to):
        console.print(f"fixed_sigma = {fit_fixed_sigma(fitted_to, shipped.alone)}, the other constants unchanged")
    alone = shipped.alone if options.pair_only else None
    fitted = fit_model(fitted_to, alone)
    console.print(str(fitted), soft_wrap=True)

    title = f"{extractor.name}, right at alpha = {CONFIDENCE_ALPHA}"
    table = Table(title=title, title_justify="left")
    for column in ("pairs", "ranked by", "AUSE", "ECE", "of chance", "Brier", "half", "all", "gain"):
        table.add_column(column, justify="left" if column in ("pairs", "ranked by") else "right")
    tested = [
        ("cross-validated", sample, found)
        for sample, found in zip(fitted_to, cross_validate(fitted_to, alone), strict=True)
    ]
    tested += [("as fitted", sample, sample.confidence(fitted)) for sample in others]
    for how, sample, found in tested:
        for label, ranks in (
            ("score", sample.cues.score),
            ("confidence, in the code", sample.confidence(shipped)),
            (f"confidence, {how}", found),
        ):
            table.add_row(sample.name, label, *measures(ranks, sample.right, is_probability=label != "score"))
        table.add_section()
    console.print(table)


if __name__ == "__main__":
    main()
