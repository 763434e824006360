r"""Fit the confidence of keypoints that are fused from many references, and measure its calibration.

    python benchmarks/accuracy/transfer_references.py --train train --animals animal-parts \
        --cache DIR --samples samples.npz
    python scripts/fit_references.py samples.npz

The samples are the cues of every keypoint that a target has and an example marks, and whether its place is right at
alpha = .1, for several numbers of references. Logistic regression, in which every such setting has the same weight,
gives the constants of `geomatch.transfer.references.keypoints.FusedConfidence`, printed as they stand in the code.

The table has PCK, the ECE and PCK of the more confident half of each setting, with the constants in the code and, in
brackets, with constants that were fitted to the targets of the other folds: target i is in part i modulo FOLDS.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize

from geomatch.evaluation.metrics.calibration import calibration, sparsification
from geomatch.transfer.references.keypoints import FusedConfidence, KeypointCues

FOLDS = 5
"""Parts of the targets, each of which is measured with constants fitted to the others."""


@dataclass(frozen=True)
class Setting:
    """Keypoints found from so many references: cues (6, N), right (N,) bool, the number of the target (N,)."""

    name: str
    cues: NDArray[np.float64]
    right: NDArray[np.bool_]
    image: NDArray[np.int64]

    def at(self, chosen: NDArray[np.bool_]) -> Setting:
        return Setting(self.name, self.cues[:, chosen], self.right[chosen], self.image[chosen])

    def confidence(self, model: FusedConfidence) -> NDArray[np.float64]:
        return model(KeypointCues(*self.cues))

    def scores(self, confidence: NDArray[np.float64]) -> tuple[float, float]:
        """ECE, and the share right among the more confident half."""
        half = 1 - sparsification((~self.right).astype(np.float64), confidence, [0.5])[0]
        return calibration(self.right, confidence).expected_calibration_error, float(half)


def read_settings(file: Path) -> list[Setting]:
    """The keypoints that the targets have, of each setting."""
    settings = []
    with np.load(file) as arrays:
        for name in dict.fromkeys(key.rpartition(".")[0] for key in arrays):
            whole = Setting(name, *(arrays[f"{name}.{key}"] for key in ("cues", "right", "image")))
            settings.append(whole.at(arrays[f"{name}.has"]))
    return settings


def fit(settings: Sequence[Setting]) -> FusedConfidence:
    """The constants that maximise the likelihood of which places are right."""
    tables = [np.concatenate((each.cues, np.ones((1, each.cues.shape[1])))) for each in settings]
    signs = [2.0 * each.right - 1 for each in settings]

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margins = [sign * (weights @ table) for sign, table in zip(signs, tables, strict=True)]
        value = np.mean([np.logaddexp(0, -margin).mean() for margin in margins])
        slopes = [-sign / (1 + np.exp(margin)) for sign, margin in zip(signs, margins, strict=True)]
        gradients = [table @ slope / len(slope) for table, slope in zip(tables, slopes, strict=True)]
        return float(value), np.mean(gradients, axis=0)

    found = minimize(loss, np.zeros(len(tables[0])), jac=True, method="L-BFGS-B").x
    return FusedConfidence(*(round(float(weight), 3) for weight in found))


def cross_validate(settings: Sequence[Setting]) -> list[NDArray[np.float64]]:
    """The confidence (N,) of each setting's keypoints, with constants fitted to the targets of the other folds."""
    confidence = [np.zeros(len(each.right)) for each in settings]
    for fold in range(FOLDS):
        model = fit([each.at(each.image % FOLDS != fold) for each in settings])
        for each, found in zip(settings, confidence, strict=True):
            left_out = each.image % FOLDS == fold
            found[left_out] = each.at(left_out).confidence(model)
    return confidence


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", type=Path, metavar="FILE")
    settings = read_settings(parser.parse_args().samples)
    console = Console(width=120)
    console.print(str(fit(settings)), soft_wrap=True)
    table = Table("whose, n, k", "keypoints", "PCK@.10", "ECE", "more confident half")
    for each, found in zip(settings, cross_validate(settings), strict=True):
        measured = zip(each.scores(each.confidence(FusedConfidence())), each.scores(found), strict=True)
        cells = [f"{in_code:.3f} ({validated:.3f})" for in_code, validated in measured]
        table.add_row(each.name, str(len(each.right)), f"{each.right.mean():.3f}", *cells)
    console.print(table)


if __name__ == "__main__":
    main()
