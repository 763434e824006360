"""`scripts/fit_references.py`, which fits the confidence of fused keypoints, on samples of known constants."""

import sys
from pathlib import Path

import numpy as np
import pytest

from geomatch.transfer.references.keypoints import FusedConfidence, KeypointCues
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from fit_references import Setting, cross_validate, fit, read_settings

TRUE = FusedConfidence(2.0, -1.0, 0.5, 1.5, 0.0, 1.0, -0.5)


def simulated(count: int, seed: int) -> Setting:
    """Keypoints that are right as often as their confidence says, five an image."""
    random = np.random.default_rng(seed)
    cues = random.normal(size=(6, count))
    right = random.random(count) < TRUE(KeypointCues(*cues))
    return Setting(str(seed), cues, right, np.arange(count) // 5)


def test_fit_finds_the_constants_of_simulated_keypoints() -> None:
    found = fit([simulated(20_000, 0), simulated(10_000, 1)])
    assert list(vars(found).values()) == pytest.approx(list(vars(TRUE).values()), abs=0.12)


def test_cross_validated_confidence_is_calibrated() -> None:
    settings = [simulated(6_000, 2)]
    (confidence,) = cross_validate(settings)
    error, half = settings[0].scores(confidence)
    assert error < 0.04
    assert half > settings[0].right.mean() + 0.1


def test_settings_are_those_keypoints_that_targets_have(tmp_path: Path) -> None:
    own = simulated(10, 3)
    has = np.arange(10) < 6
    arrays = {"cues": own.cues, "right": own.right, "image": own.image, "has": has}
    np.savez(tmp_path / "samples.npz", **{f"own-20-5.{name}": value for name, value in arrays.items()})
    (read,) = read_settings(tmp_path / "samples.npz")
    assert read.name == "own-20-5"
    np.testing.assert_array_equal(read.cues, own.cues[:, :6])
    assert len(read.right) == len(read.image) == 6
