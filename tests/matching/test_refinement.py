"""Sub-cell refinement."""

import numpy as np
import torch

from geomatch.matching.base import MatchContext
from geomatch.matching.refinement.sub_cell import refine_to_subcell
from tests.conftest import random_features


def test_refine_to_subcell_equals_a_slow_soft_argmax() -> None:
    source, target = random_features(2, 2), random_features(5, 6, seed=1)
    partner = torch.tensor([2 * 6 + 3, 0, 29, 17])  # in the middle, in two corners, on an edge
    refined = refine_to_subcell(MatchContext(source, target), partner, 1, 0.2)

    def soft_argmax(descriptor: torch.Tensor, cell: int) -> np.ndarray:
        weights, sums = 0.0, np.zeros(2)
        for y in range(cell // 6 - 1, cell // 6 + 2):
            for x in range(cell % 6 - 1, cell % 6 + 2):
                if 0 <= y < 5 and 0 <= x < 6:
                    score = float(descriptor @ target.descriptors[:, y, x])
                    weights += np.exp(score / 0.2)
                    sums += np.exp(score / 0.2) * np.array([x, y])
        return sums / weights

    for index, cell in enumerate(partner.tolist()):
        seen = soft_argmax(source.descriptors.flatten(1)[:, index], cell)
        seen_by_partner = soft_argmax(target.descriptors.flatten(1)[:, cell], cell)
        expected = np.array([cell % 6, cell // 6]) + seen - seen_by_partner
        np.testing.assert_allclose(refined[index].numpy(), expected, atol=1e-4)
