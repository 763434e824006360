"""One step of SCNet: pairs of photographs -> a warped view of each -> embeddings of boxes -> the ranking loss."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.datasets.image_folder import ImageReader
from geomatch.datasets.keypoint_pairs import PairSource
from geomatch.errors import InputError
from geomatch.features.scnet import Embedding, SCNet, Variant
from geomatch.geometry.boxes import Boxes
from geomatch.matching.proposal_flow.pooling import pool_maxima
from geomatch.matching.proposal_flow.proposals import uniform_boxes
from geomatch.matching.proposal_flow.regions import Regions
from geomatch.matching.proposal_flow.scnet import geometric_votes
from geomatch.training.keypoints.views import PairLoader, PairViews
from geomatch.training.letterbox import cell_centres
from geomatch.training.scnet.loss import ranking_loss, true_overlaps
from geomatch.training.scnet.recipe import SCNetRecipe
from geomatch.training.trainer import StepLoss

START_BATCHES = 10
"""Batches whose mean region the embeddings start from."""

PATIENCE = 50
"""Batches in a row without any match among the boxes, after which training gives up."""


class SCNetTask:
    """The network to train, and the loss of a given batch. ``upcoming`` ends the threads that read photographs.

    The weights of the layer that embeds regions learn, of SCNet-AG+ those of the second layer alone, as released, and
    what is pooled if ``tuned``; in the paper it is not. Maxima are large in the same channels everywhere, and a layer
    that learns from them as they are makes all regions alike: the loss then stays at 1. So it learns from what they
    differ in from the mean region (`centre`), and its bias follows from its weights (`constrain`). That is ours.
    """

    def __init__(
        self,
        recipe: SCNetRecipe,
        network: SCNet,
        sources: Sequence[PairSource],
        reader: ImageReader,
        device: torch.device,
        stride: int = 1,
        *,
        tuned: bool = False,
    ) -> None:
        """stride: between the numbers of the batches asked for."""
        self.recipe, self.network, self.tuned = recipe, network.to(device), tuned
        self.learning = Embedding.appearance if network.geometry is None else Embedding.geometry
        network.requires_grad_(tuned)
        for layer in network.layers():
            layer.requires_grad_(False)
        network.layer(self.learning).weight.requires_grad_(True)
        self.mean = torch.zeros(network.appearance.in_features, device=device)
        centres = cell_centres(recipe.view_size, network.stride, network.offset)
        self.load = PairLoader(recipe, sources, reader, device, centres, stride)
        self.upcoming = self.load.upcoming
        self._without_match = 0

    def loss(self, batch: int, autocast: AbstractContextManager[object]) -> StepLoss:
        """The loss of batch number ``batch``, and what the log reports of it.

        Raises InputError if photographs cannot be read, or no box of PATIENCE batches in a row is a match.
        """
        recipe = self.recipe
        pairs = self.load(batch)
        boxes, pooled = self._pool(batch, pairs, autocast)
        regions = [self._embed(own, maxima) for own, maxima in zip(boxes, pooled, strict=True)]
        losses, matches = [], []
        for pair in range(0, len(boxes), 2):
            for source, target in ((pair, pair + 1), (pair + 1, pair)):
                points = self._points(pairs, source, target)
                on_object, known = true_overlaps(boxes[source], boxes[target], points, recipe.view_size)
                scores = self._scores(regions[source], regions[target])[torch.from_numpy(on_object)]
                overlaps = torch.from_numpy(known).to(scores)
                limits = recipe.positive_overlap, recipe.negative_overlap
                losses.append(ranking_loss(scores, overlaps, *limits, recipe.margin))
                matches.append(int((known > recipe.positive_overlap).sum()))
        self._check_matches(sum(matches))
        loss = torch.stack(losses).sum() / max(1, int(np.count_nonzero(matches)))
        return StepLoss(loss, {"matches": sum(matches) / len(matches)}, len(boxes), self.load.newly_unreadable())

    @torch.no_grad()
    def centre(self, autocast: AbstractContextManager[object]) -> None:
        """Find the mean region of START_BATCHES batches, which is to be embedded at the origin."""
        means = [
            torch.cat(self._pool(batch, self.load(batch), autocast)[1]).mean(dim=0) for batch in range(START_BATCHES)
        ]
        self.mean = torch.stack(means).mean(dim=0)
        self.constrain()

    @torch.no_grad()
    def constrain(self) -> None:
        """Set the bias such that the mean region is embedded at the origin."""
        layer = self.network.layer(self.learning)
        layer.bias.copy_(-(layer.weight @ self.mean))

    def _pool(
        self, batch: int, pairs: PairViews, autocast: AbstractContextManager[object]
    ) -> tuple[list[Boxes], list[Tensor]]:
        """The boxes of each view of a batch, and the maxima of phi over their bins."""
        network, side = self.network, self.recipe.view_size
        views = pairs.render(side).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        with autocast, torch.set_grad_enabled(self.tuned and torch.is_grad_enabled()):
            phi = network(views)[0]
        boxes = [self._draw_boxes(batch, view) for view in range(len(views))]
        cells = [(torch.from_numpy(own).to(phi) - network.offset) / network.stride for own in boxes]
        bins = network.config.bins
        return boxes, [pool_maxima(each, at[:, :2], at[:, 2:], bins) for each, at in zip(phi, cells, strict=True)]

    def _draw_boxes(self, batch: int, view: int) -> Boxes:
        seed = int(np.random.SeedSequence((self.recipe.seed, batch, view)).generate_state(1)[0])
        side = self.recipe.view_size
        return uniform_boxes((side, side), self.recipe.boxes, seed)

    def _embed(self, boxes: Boxes, pooled: Tensor) -> tuple[Regions, Tensor]:
        """The boxes of a view, with the embeddings that vote, and their embeddings of appearance."""
        side = self.recipe.view_size
        learnt = F.normalize(F.linear(pooled - self.mean, self.network.layer(self.learning).weight), dim=1)
        regions = Regions.of(torch.from_numpy(boxes).to(pooled), (side, side))
        if self.learning is Embedding.appearance:
            return regions, learnt
        return replace(regions, voters=learnt), self.network.embed(pooled, Embedding.appearance)

    def _scores(self, first: tuple[Regions, Tensor], second: tuple[Regions, Tensor]) -> Tensor:
        """z (N, M), as the matcher of the network's variant has it."""
        (source, of_source), (target, of_target) = first, second
        similarity = (of_source @ of_target.mT).relu()
        if self.network.config.variant == Variant.a:
            return similarity
        voting = similarity
        if source.voters is not None and target.voters is not None:
            voting = (source.voters @ target.voters.mT).relu()
        return similarity * geometric_votes(voting, source, target)

    def _points(self, pairs: PairViews, source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
        """The keypoints (K, 2) float64 that two views share."""
        shared = pairs.shared[source // 2]
        here, there = (pairs.points.flatten(0, 1)[view][shared].double().cpu().numpy() for view in (source, target))
        return here, there

    def _check_matches(self, matches: int) -> None:
        self._without_match = 0 if matches else self._without_match + 1
        if self._without_match >= PATIENCE:
            raise InputError(
                f"in {PATIENCE} batches in a row no box overlaps the true place of a region by more than "
                f"{self.recipe.positive_overlap:g}: lower --set positive_overlap, or raise --set boxes"
            )
