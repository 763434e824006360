"""One step of learning from keypoints: pairs of photographs -> a warped view of each -> phi and sigma -> the loss."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from copy import deepcopy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.datasets.image_folder import ImageReader
from geomatch.datasets.keypoint_pairs import PairSource
from geomatch.features.introspection import IntrospectionNet
from geomatch.geometry.grid import read_cells
from geomatch.training.introspection.loss import IGNORED, introspection_loss, label_pairs, similarity_loss
from geomatch.training.keypoints.loss import contrastive_loss, soft_targets
from geomatch.training.keypoints.recipe import KeypointRecipe
from geomatch.training.keypoints.views import PairLoader, PairViews
from geomatch.training.letterbox import cell_centres
from geomatch.training.trainer import StepLoss


class KeypointTask:
    """The network to train, and the loss of a given batch. ``upcoming`` ends the threads that read photographs."""

    def __init__(
        self,
        recipe: KeypointRecipe,
        network: IntrospectionNet,
        sources: Sequence[PairSource],
        reader: ImageReader,
        device: torch.device,
        stride: int = 1,
    ) -> None:
        """stride: between the numbers of the batches asked for."""
        self.recipe, self.network = recipe, network.to(device)
        initial = deepcopy(network).eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.initial: IntrospectionNet = initial
        self.centres = cell_centres(recipe.view_size, network.stride, network.offset)
        self.load = PairLoader(recipe, sources, reader, device, self.centres, stride)
        self.upcoming = self.load.upcoming

    def loss(self, batch: int, autocast: AbstractContextManager[object]) -> StepLoss:
        """The loss of batch number ``batch``, and what the log reports of it. Raises InputError."""
        recipe = self.recipe
        pairs, unreadable = self.load(batch)
        views = pairs.render(recipe.view_size).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        with autocast:
            phi, sigma = self.network(views)
            with torch.no_grad():
                before = self.initial(views[: recipe.similarity_views])[0] if recipe.similarity_weight else None
        terms = [
            self._terms(pairs, phi, sigma, source, target)
            for pair in range(0, len(views), 2)
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
        return StepLoss(loss, report, len(views), unreadable)

    def _terms(self, pairs: PairViews, phi: Tensor, sigma: Tensor, source: int, target: int) -> Tensor:
        """The likelihood and the contrastive loss (2,) of the keypoints of view ``source`` in view ``target``."""
        recipe, network = self.recipe, self.network
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
        targets = soft_targets(there / network.stride, centres / network.stride, recipe.spread)
        contrastive = contrastive_loss(first[0] @ all_cells[0].mT, targets, ignored, recipe.temperature)
        return torch.stack((likelihood, contrastive))

    def _features_at(self, points: Tensor, phi: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Descriptors (K, C) of unit length and sigmas (K,) at pixels (K, 2) of a view."""
        cells = ((points - self.network.offset) / self.network.stride)[None]
        return F.normalize(read_cells(phi[None], cells)[0], dim=0).mT, read_cells(sigma[None], cells)[0, 0]

    def _choose_cells(self, cells: int, batch: int) -> Tensor:
        order = np.random.default_rng((self.recipe.seed, batch, 1)).permutation(cells)
        return torch.from_numpy(order[: self.recipe.similarity_cells])
