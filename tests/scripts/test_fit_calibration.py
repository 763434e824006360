"""`scripts/fit_calibration.py`, which fits the constants of confidence."""

import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from geomatch.correspondence import ConfidenceModel, CueWeights
from geomatch.matching.confidence import CellMatches, MatchCues, match_probability
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import fit_calibration
from fit_calibration import (
    FOLDS,
    Sample,
    cross_validate,
    fit_alone,
    fit_fixed_sigma,
    fit_in_pair,
    fit_model,
    in_view,
    measures,
)

ALONE = CueWeights(temperature=3, inverse_sigma=0.5, peakedness=2, agreement=1, hubness=0.7, prior=-5)
TRUE = ConfidenceModel(ALONE, in_pair=CueWeights(5, 0.2, 4, 0.5, 0.4, -3), consistency=3, extent=6, cells=1)
NEUTRAL = ConfidenceModel(ALONE, in_pair=ALONE, consistency=0, extent=0)


def random_cues(random: np.random.Generator, count: int) -> MatchCues:
    columns = random.uniform((0, 0.1, 0, 0, -1), (1, 0.4, 1, 1, 1), (count, 5)).T
    return MatchCues(*torch.from_numpy(columns))


def simulated(count: int, model: ConfidenceModel, sigma: float | None = None, seed: int = 0, pairs: int = 50) -> Sample:
    """Matches that are right as often as a model says. Pairs differ in cycle errors, and in their cells."""
    random = np.random.default_rng(seed)

    def cells(size: float, error: float) -> CellMatches:
        number = int(random.integers(5, 80))
        return CellMatches(
            random_cues(random, number),
            torch.from_numpy(random.exponential(error, number)),
            torch.from_numpy(random.uniform(0, size, (number, 2))),
        )

    sizes, errors = random.uniform(0.1, 1, pairs), random.uniform(0.01, 0.2, pairs)
    both_ways = [(cells(*each), cells(*each)) for each in zip(sizes, errors, strict=True)]
    cues = random_cues(random, count)
    if sigma:
        cues = replace(cues, sigma=torch.full_like(cues.sigma, sigma))
    unknown = Sample("simulated", cues, torch.zeros(count), torch.arange(count) % pairs, both_ways)
    return replace(unknown, right=torch.from_numpy(random.random(count)) < unknown.confidence(model))


def test_fit_alone_finds_the_weights_of_simulated_matches() -> None:
    found = fit_alone([simulated(30_000, NEUTRAL), simulated(30_000, NEUTRAL, seed=1)])
    cues = simulated(1000, NEUTRAL, seed=2).cues
    assert float((match_probability(cues, found) - match_probability(cues, ALONE)).abs().max()) < 0.05
    assert found.inverse_sigma == pytest.approx(ALONE.inverse_sigma, rel=0.1)


def test_fit_in_pair_finds_the_weights_of_simulated_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_calibration, "PULL", 0)
    found = fit_in_pair([simulated(40_000, TRUE, pairs=400), simulated(40_000, TRUE, seed=1, pairs=400)], ALONE)
    assert found.alone == ALONE
    assert found.consistency == pytest.approx(TRUE.consistency, rel=0.1)
    assert found.extent == pytest.approx(TRUE.extent, rel=0.1)
    assert found.cells == pytest.approx(TRUE.cells, rel=0.1)
    assert asdict(found.in_pair) == pytest.approx(asdict(TRUE.in_pair), rel=0.15)


def test_fit_in_pair_is_pulled_towards_the_weights_of_a_match_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    sample, found = simulated(3000, TRUE), []
    for pull in (0, 0.1, 1e6):
        monkeypatch.setattr(fit_calibration, "PULL", pull)
        found.append(fit_in_pair([sample], ALONE).in_pair.peakedness)
    assert found[0] > found[1] > found[2] == ALONE.peakedness


def test_fit_model_is_true_on_other_pairs() -> None:
    found = fit_model([simulated(20_000, TRUE, pairs=400)])
    other = simulated(2000, TRUE, seed=1)
    assert float((other.confidence(found) - other.confidence(TRUE)).abs().mean()) < 0.03


def test_fit_model_keeps_the_weights_of_a_match_alone_if_asked() -> None:
    sample = simulated(3000, TRUE)
    assert fit_model([sample], ALONE) == fit_in_pair([sample], ALONE) != fit_model([sample])


def test_fit_model_keeps_every_weight_positive() -> None:
    negative = replace(NEUTRAL, in_pair=replace(ALONE, peakedness=-2, prior=-3))
    assert fit_alone([simulated(5000, negative)]).peakedness == fit_calibration.SMALLEST_WEIGHT
    negative = replace(TRUE, extent=-6, in_pair=replace(TRUE.in_pair, prior=-3))
    assert fit_in_pair([simulated(5000, negative)], ALONE).extent == fit_calibration.SMALLEST_WEIGHT


def test_cross_validate_judges_each_pair_by_the_others() -> None:
    sample = simulated(3000, TRUE, pairs=60)
    (found,) = cross_validate([sample])
    for fold in (0, FOLDS - 1):
        left_out = torch.tensor([pair % FOLDS == fold for pair in sample.pair_of.tolist()])
        model = fit_model([sample.at(~left_out)])
        torch.testing.assert_close(found[left_out], sample.confidence(model)[left_out])
    flipped = replace(sample, right=torch.where(sample.pair_of % FOLDS == 0, ~sample.right, sample.right))
    (again,) = cross_validate([flipped])
    own = sample.pair_of % FOLDS == 0
    assert torch.equal(again[own], found[own])
    assert not torch.equal(again[~own], found[~own])


def test_fit_fixed_sigma_finds_the_constant() -> None:
    sample = simulated(30_000, NEUTRAL, sigma=0.15)
    unknown = replace(sample, cues=replace(sample.cues, sigma=torch.full_like(sample.cues.sigma, 0.07)))
    assert fit_fixed_sigma([unknown], ALONE) == pytest.approx(0.15, rel=0.05)


def test_measures_of_true_confidence_are_those_of_chance() -> None:
    sample = simulated(20_000, TRUE)
    confidence = sample.confidence(TRUE)
    ause, error, chance, brier, half, everything, gain = map(
        float, measures(confidence, sample.right, is_probability=True)
    )
    assert error < 2 * chance < 0.03
    assert brier == pytest.approx(float((confidence * (1 - confidence)).mean()), abs=0.01)
    assert gain == pytest.approx(half - everything, abs=2e-3)  # three rounded numbers
    assert ause > 0


def test_in_view_takes_keypoints_that_are_looked_at() -> None:
    points = torch.tensor([[4.0, 9.0], [4.5, 9.5], [3.0, 5.0], [20.5, 9.0], [30.0, 30.0]], dtype=torch.float64)
    assert in_view(points, (3.5, 8.5, 20.5, 9.0)).tolist() == [True, False, False, True, False]
    assert in_view(points, None).all()


def test_presets_with_other_features_are_not_fitted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--dataset", "spair-71k=.", "--preset", "default", "--preset", "precise"]
    monkeypatch.setattr(sys, "argv", ["fit_calibration.py", *arguments])
    with pytest.raises(SystemExit, match="constants of their own"):
        fit_calibration.main()


@pytest.mark.parametrize(
    ("features", "constants"),
    [("introspection", "ConfidenceModel(alone="), ("hypercolumn", "fixed_sigma = ")],
)
def test_fit_calibration_prints_constants_and_measures(
    features: str, constants: str, spair: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--dataset", f"spair-71k={spair}", "--features", features, "--preset", "fast", "--pairs", "6"]
    monkeypatch.setattr(sys, "argv", ["fit_calibration.py", *arguments])
    with pytest.warns(UserWarning, match="not those of the benchmark"):
        fit_calibration.main()
    printed = capsys.readouterr().out
    assert constants in printed
    assert "spair-71k, fast, nn" in printed
    assert "spair-71k, fast, affine" in printed
    assert "cross-validated" in printed
