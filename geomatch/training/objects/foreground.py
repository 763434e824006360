"""What tells objects from their surroundings, whatever the object: a linear classifier of descriptors.

`geomatch.training.objects.crops` finds the objects of each label. The classifier learns from the boxes of all labels,
so it goes by what they have in common. (Ours.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from geomatch.datasets.crops import Crop
from geomatch.datasets.image_list import LabelledImage, by_label
from geomatch.features.weights import save_weights
from geomatch.features.zoom import Foreground, ForegroundConfig
from geomatch.training.objects.crops import CELLS, CellDescriptors, coverage

ROUNDS: Final = 12
"""Of Newton's method."""

_RIDGE: Final = 1e-4
"""On the weights, but not the bias, for each cell."""

_CHUNK: Final = 64  # photographs whose descriptors are converted to float64 at a time


def first_of_each_label(photographs: Sequence[LabelledImage], count: int) -> list[LabelledImage]:
    """The first ``count`` photographs of each label, in the order of all; some labels may have fewer."""
    chosen = {each.name for having in by_label(photographs).values() for each in having[:count]}
    return [each for each in photographs if each.name in chosen]


def fit_foreground(cells: CellDescriptors, crops: Sequence[Crop], reads: str) -> Foreground:
    """The classifier that gives cells in a box high log-odds, and others low ones.

    Logistic regression on all cells of all photographs, by Newton's method from 0. A cell's target is the share of it
    that lies in a box of its photograph.

    Args:
        cells: the photographs, with the descriptors of the distilled network whose SHA-256 is ``reads``.
        crops: their boxes; a photograph may have several, or none.
    """
    targets = coverage(cells, crops).flatten()
    channels = cells.descriptors.shape[1]
    weights = torch.zeros(channels + 1, dtype=torch.float64)
    for _ in range(ROUNDS):
        weights -= _newton_step(cells.descriptors, targets, weights)
    made = Foreground(ForegroundConfig(channels, reads))
    with torch.no_grad():
        made.score.weight.copy_(weights[:-1].reshape(1, -1, 1, 1))
        made.score.bias.fill_(float(weights[-1]))  # type: ignore[union-attr]
    return made


def _newton_step(descriptors: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """By how much the weights and the bias (C + 1,) exceed where the quadratic model of the loss is least.

    descriptors: (N, C, CELLS, CELLS). targets: (N * CELLS * CELLS,).
    """
    ridge = _RIDGE * len(targets) * torch.ones_like(weights).index_fill_(0, torch.tensor([len(weights) - 1]), 0)
    gradient, curvature = ridge * weights, torch.diag(ridge)
    for chunk, wanted in zip(torch.split(descriptors, _CHUNK), torch.split(targets, _CHUNK * CELLS**2), strict=True):
        rows = chunk.movedim(1, -1).flatten(0, 2).double()
        rows = torch.cat((rows, torch.ones_like(rows[:, :1])), dim=1)
        probability = torch.sigmoid(rows @ weights)
        gradient = gradient + rows.mT @ (probability - wanted)
        curvature = curvature + (rows * (probability * (1 - probability))[:, None]).mT @ rows
    return torch.linalg.solve(curvature, gradient)  # type: ignore[no-any-return]


def save_foreground(path: Path, made: Foreground) -> None:
    """Write the classifier as weights of the feature ``foreground``."""
    save_weights(path, "foreground", asdict(made.config), made.state_dict())
