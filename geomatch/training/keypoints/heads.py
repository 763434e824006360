"""A step of learning the heads alone from keypoints, on columns of a frozen trunk that are computed once.

The trunk takes nearly all of a step's time. With one view of each object, and of its mirror image, kept on disk, a step
takes a fraction, so that the heads see many more pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.datasets.image_folder import ImageReader
from geomatch.datasets.keypoint_pairs import KeypointPair, PairSource
from geomatch.errors import InputError
from geomatch.features.introspection import IntrospectionHeads, IntrospectionNet
from geomatch.runtime.device import send
from geomatch.training.keypoints.columns import ColumnStore, Projection
from geomatch.training.keypoints.objective import KeypointObjective
from geomatch.training.keypoints.recipe import KeypointRecipe
from geomatch.training.keypoints.views import NO_PAIR, PAIRS_TRIED, draw_pair, on_others, shown_points
from geomatch.training.trainer import StepLoss


@dataclass(frozen=True)
class _PairColumns:
    """P pairs of views: columns (2P, C, h, w), and what they share, as `PairViews` has it."""

    columns: Tensor
    points: Tensor
    shared: Tensor
    ignored: Tensor


class HeadTask:
    """The heads to train, on reduced columns, and the loss of a given batch."""

    def __init__(
        self,
        recipe: KeypointRecipe,
        network: IntrospectionNet,
        sources: Sequence[PairSource],
        reader: ImageReader,
        store: ColumnStore,
    ) -> None:
        self.recipe, self.sources, self.reader, self.store = recipe, sources, reader, store
        self.device = network.descriptor.weight.device
        self.network = reduced_heads(network, store.projection).to(self.device)
        self.initial = deepcopy(self.network).eval().requires_grad_(False)
        centres = store.centres.float().to(self.device)
        self.objective = KeypointObjective(recipe, network.stride, network.offset, centres)

    def expand_into(self, network: IntrospectionNet) -> None:
        """Make the heads of a network give for columns what the heads trained give for reduced columns."""
        expand_heads(self.network, self.store.projection, network)

    def loss(self, batch: int, autocast: AbstractContextManager[object]) -> StepLoss:
        """The loss of batch number ``batch``, and what the log reports of it. Raises InputError."""
        known = len(self.reader.unreadable)
        pairs = self._load(batch)
        with autocast:
            phi, sigma = self.network(pairs.columns)
            with torch.no_grad():
                first = pairs.columns[: self.recipe.similarity_views]
                before = self.initial(first)[0] if self.recipe.similarity_weight else None
        loss, report = self.objective(pairs, phi, sigma, before, batch)
        return StepLoss(loss, report, len(pairs.columns), tuple(self.reader.unreadable[known:]))

    def _load(self, batch: int) -> _PairColumns:
        """The pairs of a batch; others stand in for those with a damaged photograph, or with keypoints outside."""
        recipe = self.recipe
        random = np.random.default_rng((recipe.seed, batch))
        drawn: list[tuple[KeypointPair, Tensor, Tensor]] = []
        for _ in range(PAIRS_TRIED * recipe.batch_size):
            pair = draw_pair(self.sources, random)
            damaged = self.store.prepare((pair.first, pair.second))
            if damaged:
                self.reader.record(damaged)
                continue
            homographies = torch.stack([self.store.homography(view) for view in (pair.first, pair.second)])
            points = shown_points(pair, homographies, recipe)
            if points is not None:
                drawn.append((pair, homographies, points))
            if len(drawn) == recipe.batch_size:
                return self._join(drawn)
        raise InputError(NO_PAIR)

    def _join(self, drawn: Sequence[tuple[KeypointPair, Tensor, Tensor]]) -> _PairColumns:
        views = [view for pair, _, _ in drawn for view in (pair.first, pair.second)]
        counts = torch.tensor([points.shape[1] for _, _, points in drawn])
        most = int(counts.max())
        points = torch.stack([F.pad(points, (0, 0, 0, most - points.shape[1])) for _, _, points in drawn])
        homographies = torch.cat([each for _, each, _ in drawn])
        return _PairColumns(
            send(torch.stack([self.store.columns(view) for view in views]), self.device).float(),
            send(points.float(), self.device),
            send(torch.arange(most) < counts[:, None], self.device),
            send(on_others(views, homographies, self.store.centres), self.device),
        )


def reduced_heads(network: IntrospectionNet, projection: Projection) -> IntrospectionHeads:
    """Heads that give for reduced columns z what a network's heads give for the columns D' z + m."""
    heads = IntrospectionHeads(len(projection.directions), network.config)
    _carry_over(network, heads, projection.directions.mT, projection.mean)
    return heads


def expand_heads(heads: IntrospectionHeads, projection: Projection, network: IntrospectionNet) -> None:
    """Make the heads of a network give for columns x what ``heads`` give for the reduced columns D (x - m)."""
    _carry_over(heads, network, projection.directions, -projection.directions @ projection.mean)


@torch.no_grad()
def _carry_over(source: IntrospectionHeads, target: IntrospectionHeads, matrix: Tensor, shift: Tensor) -> None:
    """Give the target the heads of the source, whose input is ``matrix`` times the target's, plus ``shift``.

    W (A y + s) + b = (W A) y + (W s + b): only the layers that read the input differ.
    """
    state = target.state_dict()
    for name, tensor in source.state_dict().items():
        if name in state and state[name].shape == tensor.shape:
            state[name].copy_(tensor)
    for old, new in zip(source.first_layers(), target.first_layers(), strict=True):
        assert old.bias is not None
        assert new.bias is not None
        weight = old.weight[:, :, 0, 0].cpu()
        new.weight.copy_((weight @ matrix)[:, :, None, None])
        new.bias.copy_(old.bias.cpu() + weight @ shift)
