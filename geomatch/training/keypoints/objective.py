"""What a training from keypoints minimises, given the features of the views of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.geometry.grid import read_cells
from geomatch.training.introspection.loss import IGNORED, introspection_loss, label_pairs, similarity_loss
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

    stride, offset: of the cells, in pixels of the views. centres: (N, 2), the centres of the cells.
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
        terms = [
            self._terms(pairs, phi, sigma, source, target)
            for pair in range(0, len(phi), 2)
            for source, target in ((pair, pair + 1), (pair + 1, pair))
        ]
        likelihood, contrastive = torch.stack(terms).mean(dim=0)
        loss = likelihood + recipe.contrastive_weight * contrastive
        report = {
            "likelihood": likelihood.detach(),
            "contrastive": contrastive.detach(),
            "sigma": sigma.detach().mean(),
        }
        if before is not None:
            chosen = self._choose_cells(len(before) * len(self.centres), batch).to(phi.device, non_blocking=True)
            now, then = (each[: len(before)].flatten(2).mT.flatten(0, 1)[chosen] for each in (phi, before))
            similarity = similarity_loss(now, then)
            loss = loss + recipe.similarity_weight * similarity
            report["similarity"] = similarity.detach()
        return loss, report

    def _terms(self, pairs: SharedKeypoints, phi: Tensor, sigma: Tensor, source: int, target: int) -> Tensor:
        """The likelihood and the contrastive loss (2,) of the keypoints of view ``source`` in view ``target``."""
        recipe = self.recipe
        shared = pairs.shared[source // 2]
        here, there = (pairs.points.flatten(0, 1)[view][shared] for view in (source, target))
        centres = self.centres.to(here)
        first = self._features_at(here, phi[source], sigma[source])
        corresponding = self._features_at(there, phi[target], sigma[target])
        all_cells = phi[target].flatten(1).mT, sigma[target].flatten()
        second = tuple(torch.cat(parts) for parts in zip(corresponding, all_cells, strict=True))

        ignored = pairs.ignored[target]
        labels = label_pairs(torch.cat((there, centres))[None], recipe.positive_radius, recipe.negative_radius)
        labels = labels[:, : len(there)].clone()
        labels[:, :, len(there) :].masked_fill_(ignored, IGNORED)
        likelihood = introspection_loss(
            (first[0][None], first[1][None]), (second[0][None], second[1][None]), labels, recipe.hardest
        )
        targets = soft_targets(there / self.stride, centres / self.stride, recipe.spread)
        contrastive = contrastive_loss(first[0] @ all_cells[0].mT, targets, ignored, recipe.temperature)
        return torch.stack((likelihood, contrastive))

    def _features_at(self, points: Tensor, phi: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Descriptors (K, C) of unit length and sigmas (K,) at pixels (K, 2) of a view."""
        cells = ((points - self.offset) / self.stride)[None]
        return F.normalize(read_cells(phi[None], cells)[0], dim=0).mT, read_cells(sigma[None], cells)[0, 0]

    def _choose_cells(self, cells: int, batch: int) -> Tensor:
        order = np.random.default_rng((self.recipe.seed, batch, 1)).permutation(cells)
        return torch.from_numpy(order[: self.recipe.similarity_cells])
