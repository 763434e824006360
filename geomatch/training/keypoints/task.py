"""A step of learning from keypoints, with all layers: pairs -> a warped view of each -> phi and sigma -> the loss."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from copy import deepcopy

import torch

from geomatch.datasets.image_folder import ImageReader
from geomatch.datasets.keypoint_pairs import PairSource
from geomatch.features.introspection import IntrospectionNet
from geomatch.training.keypoints.objective import KeypointObjective
from geomatch.training.keypoints.recipe import KeypointRecipe
from geomatch.training.keypoints.views import PairLoader
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
        centres = cell_centres(recipe.view_size, network.stride, network.offset)
        self.objective = KeypointObjective(recipe, network.stride, network.offset, centres.float().to(device))
        self.load = PairLoader(recipe, sources, reader, device, centres, stride)
        self.upcoming = self.load.upcoming

    def loss(self, batch: int, autocast: AbstractContextManager[object]) -> StepLoss:
        """The loss of batch number ``batch``, and what the log reports of it. Raises InputError."""
        recipe = self.recipe
        pairs = self.load(batch)
        views = pairs.render(recipe.view_size).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        with autocast:
            phi, sigma = self.network(views)
            with torch.no_grad():
                before = self.initial(views[: recipe.similarity_views])[0] if recipe.similarity_weight else None
        loss, report = self.objective(pairs, phi, sigma, before, batch)
        return StepLoss(loss, report, len(views), self.load.newly_unreadable())
