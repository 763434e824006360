"""`scripts/fit_calibration.py`, which fits the constants of confidence."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from geomatch.correspondence import ConfidenceModel
from geomatch.matching.confidence import MatchCues, match_probability
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import fit_calibration
from fit_calibration import Sample, fit_fixed_sigma, fit_model, measures

TRUE = ConfidenceModel(
    temperature=3, inverse_sigma_weight=0.5, peakedness_weight=2, agreement_weight=1, hubness_weight=0.7, prior=-5
)


def simulated(count: int, model: ConfidenceModel, sigma: float | None = None, seed: int = 0) -> Sample:
    """Matches that are right as often as a model says."""
    random = np.random.default_rng(seed)
    columns = random.uniform((0, 0.1, 0, 0, -1), (1, 0.4, 1, 1, 1), (count, 5)).T
    if sigma:
        columns[1] = sigma
    cues = MatchCues(*torch.from_numpy(columns))
    return Sample("simulated", cues, torch.from_numpy(random.random(count)) < match_probability(cues, model))


def test_fit_model_finds_the_constants_of_simulated_matches() -> None:
    found = fit_model([simulated(30_000, TRUE), simulated(30_000, TRUE, seed=1)])
    cues = simulated(1000, TRUE, seed=2).cues
    assert float((match_probability(cues, found) - match_probability(cues, TRUE)).abs().max()) < 0.05
    assert found.inverse_sigma_weight == pytest.approx(TRUE.inverse_sigma_weight, rel=0.1)


def test_fit_model_keeps_every_weight_positive() -> None:
    negative = ConfidenceModel(
        temperature=3, inverse_sigma_weight=0.5, peakedness_weight=-2, agreement_weight=1, hubness_weight=0.7, prior=-3
    )
    assert fit_model([simulated(5000, negative)]).peakedness_weight == fit_calibration.SMALLEST_WEIGHT


def test_fit_fixed_sigma_finds_the_constant() -> None:
    sample = simulated(30_000, TRUE, sigma=0.15)
    unknown = replace(sample.cues, sigma=torch.full_like(sample.cues.sigma, 0.07))
    assert fit_fixed_sigma([Sample("unknown", unknown, sample.right)], TRUE) == pytest.approx(0.15, rel=0.05)


def test_measures_of_true_confidence_are_those_of_chance() -> None:
    ause, error, chance, half, everything, gain = map(float, measures(simulated(20_000, TRUE), TRUE))
    assert error < 2 * chance < 0.03
    assert gain == pytest.approx(half - everything, abs=2e-3)  # three rounded numbers
    assert ause > 0


@pytest.mark.parametrize(
    ("features", "constants"), [("introspection", "ConfidenceModel(temperature="), ("hypercolumn", "fixed_sigma = ")]
)
def test_fit_calibration_prints_constants_and_measures(
    features: str, constants: str, spair: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["fit_calibration.py", "--dataset", f"spair-71k={spair}", "--features", features])
    with pytest.warns(UserWarning, match="not those of the benchmark"):
        fit_calibration.main()
    printed = capsys.readouterr().out
    assert constants in printed
    assert "spair-71k, nn" in printed
    assert "spair-71k, hough" in printed
