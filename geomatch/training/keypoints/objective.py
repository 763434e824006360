"""What a training from keypoints minimises, given the features of the views of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from geomatch.runtime.device import send
from geomatch.training.introspection.loss import features_at, introspection_losses, label_pairs, similarity_loss
from geomatch.training.keypoints.loss import contrastive_loss, soft_targets
from geomatch.training.keypoints.recipe import KeypointRecipe


class SharedKeypoints(Protocol):
    """What P pairs of views share, as `PairViews` has it: points (P, 2, K, 2), shared (P, K) and ignored (2P, N)."""

    @property
    def points(self) -> Tensor: ...
    @property
    def shared(self) -> Tensor: ...
    @property
    def ignored(self) -> Tensor: ...


@dataclass(frozen=True)
class KeypointObjective:
    """Likelihood, contrastive loss, and likeness to the initial network.

    stride, offset: of the cells, in pixels of the views. centres: (N, 2) float32, the centres of the cells, on the
    device of the training.
    """

    recipe: KeypointRecipe
    stride: int
    offset: float
    centres: Tensor

    def __call__(
        self, pairs: SharedKeypoints, phi: Tensor, sigma: Tensor, before: Tensor | None, batch: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, a scalar, and what the log reports of it.

        phi: (2P, C, h, w), sigma: (2P, 1, h, w). before: phi (V, C, h, w) of the first views by the initial network.
        """
        recipe = self.recipe
        likelihood, contrastive = self._terms(pairs, phi, sigma)
        loss = likelihood + recipe.contrastive_weight * contrastive
        report = {
            "likelihood": likelihood.detach(),
            "contrastive": contrastive.detach(),
            "sigma": sigma.detach().mean(),
        }
        if before is not None:
            chosen = send(self._choose_cells(len(before) * len(self.centres), batch), phi.device)
            now, then = (each[: len(before)].flatten(2).mT.flatten(0, 1)[chosen] for each in (phi, before))
            similarity = similarity_loss(now, then)
            loss = loss + recipe.similarity_weight * similarity
            report["similarity"] = similarity.detach()
        return loss, report

    def _terms(self, pairs: SharedKeypoints, phi: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The likelihood and the contrastive loss of the keypoints of a view in its partner, as means over all views.

        All views are one batch, although some pairs share fewer keypoints: those that are missing do not count.
        """
        recipe, here = self.recipe, pairs.points.flatten(0, 1)
        there, phi_there, sigma_there, ignored = map(of_partners, (here, phi, sigma, pairs.ignored))
        shared = pairs.shared.repeat_interleave(2, dim=0)
        first = features_at(self._to_cells(here), phi, sigma)
        corresponding = features_at(self._to_cells(there), phi_there, sigma_there)
        cells, centres = phi_there.flatten(2).mT, self.centres.expand(len(phi), -1, -1)
        second = torch.cat((corresponding[0], cells), dim=1), torch.cat((corresponding[1], sigma_there.flatten(1)), 1)

        labels = label_pairs(
            there, recipe.positive_radius, recipe.negative_radius, others=torch.cat((there, centres), dim=1)
        )
        labels *= shared[:, :, None] & torch.cat((shared, ~ignored), dim=1)[:, None]  # other pairs are IGNORED, 0
        likelihood = introspection_losses(first, second, labels, recipe.hardest, shared).mean()
        targets = soft_targets(there / self.stride, self.centres / self.stride, recipe.spread)
        contrastive = contrastive_loss(first[0] @ cells.mT, targets, ignored, recipe.temperature)
        return likelihood, ((contrastive * shared).sum(dim=1) / shared.sum(dim=1)).mean()

    def _to_cells(self, points: Tensor) -> Tensor:
        return (points - self.offset) / self.stride

    def _choose_cells(self, cells: int, batch: int) -> Tensor:
        order = np.random.default_rng((self.recipe.seed, batch, 1)).permutation(cells)
        return torch.from_numpy(order[: self.recipe.similarity_cells])


def of_partners(values: Tensor) -> Tensor:
    """For each of 2P views, a pair's two in a row, the values (2P, ...) of the other view of its pair."""
    return values.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)  # type: ignore[no-any-return, no-untyped-call]
