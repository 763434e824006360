"""`scripts/fit_mirror.py`, which fits the rule of `--mirror auto`."""

import sys
from pathlib import Path

import numpy as np
import pytest

from geomatch.matching.mirror import MirrorModel
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import fit_mirror
from fit_mirror import Sample, cross_validated, fit_rule, rows

TRUE = MirrorModel(weight=2.0, prior=-0.8)


def simulated(count: int, seed: int) -> Sample:
    """Pairs of which flipping is better as often as the rule says, always by as much."""
    random = np.random.default_rng(seed)
    gain = random.normal(size=count)
    better = random.random(count) < [TRUE.probability(each) for each in gain]
    return Sample("simulated", gain, np.where(better, 0.2, 0.6), np.where(better, 0.6, 0.2), better)


def test_fit_rule_finds_the_constants_of_simulated_pairs() -> None:
    found = fit_rule([simulated(20_000, 0), simulated(20_000, 1)])
    assert found.weight == pytest.approx(TRUE.weight, abs=0.1)
    assert found.prior == pytest.approx(TRUE.prior, abs=0.1)


def test_fit_rule_weighs_pairs_by_what_they_change() -> None:
    """Pairs that lose much by a flip, among as many that win little by it, make flips rarer."""
    gain = np.zeros(100)
    wins = np.arange(100) % 2 == 0
    on = np.where(wins, 0.6, 0.1)
    assert fit_rule([Sample("x", gain, np.full(100, 0.5), on, wins)]).probability(0) == pytest.approx(0.2, abs=0.01)


def test_cross_validated_rows_add_up() -> None:
    sample = simulated(400, 2)
    (flipped,) = cross_validated([sample])
    table = {row[1]: row[2:] for row in rows(sample, flipped)}
    pairs, share, off, on, rule, by_side, best = map(float, table["all"])
    assert pairs == 400 == int(table["same side"][0]) + int(table["opposite sides"][0])
    assert share == pytest.approx(flipped.mean(), abs=0.01)
    assert by_side == best == 0.6
    assert max(off, on) < rule < best


def test_fit_mirror_prints_constants_and_table(
    spair: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--dataset", f"spair-71k={spair}", "--features", "introspection"]
    monkeypatch.setattr(sys, "argv", ["fit_mirror.py", *arguments])
    with pytest.warns(UserWarning, match="not those of the benchmark"):
        fit_mirror.main()
    printed = capsys.readouterr().out
    assert "MirrorModel(weight=" in printed
    assert "by side" in printed
