"""What AnchorNet learns: first banks of filters from image labels, then a code of all their responses."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.datasets.image_folder import ImageBatch, ImageReader
from geomatch.datasets.image_list import LabelledImage
from geomatch.features.anchornet import AnchorNet
from geomatch.options import Batches
from geomatch.runtime.device import send
from geomatch.training.anchornet.loss import (
    auxiliary_loss,
    discriminability_loss,
    filter_diversity_loss,
    reconstruction_loss,
    response_diversity_loss,
)
from geomatch.training.anchornet.recipe import AnchorRecipe
from geomatch.training.augmentation import ViewPairs, draw_view_pairs
from geomatch.training.sampler import BatchLoader, BatchSampler
from geomatch.training.trainer import StepLoss


@dataclass(frozen=True)
class LabelledPairs(ViewPairs):
    """View pairs of a batch, and what they show.

    labels: (2B, N), 1 where a view shows the class, else -1. shown, absent: the numbers of the views and classes, of
    all 2B N, whose label is 1 and -1. They are found before the labels are copied to a GPU, which would wait to know
    how many a mask picks.
    """

    labels: Tensor
    shown: Tensor
    absent: Tensor


class LabelledViews:
    """Batches of random views, and which classes they show; photographs are drawn by balanced labels."""

    def __init__(
        self,
        recipe: AnchorRecipe,
        photographs: Sequence[LabelledImage],
        reader: ImageReader,
        device: torch.device,
        stride: int = 1,
    ) -> None:
        """stride: between the numbers of the batches asked for."""
        self.recipe, self.device = recipe, device
        sampler = BatchSampler(photographs, Batches.balanced, recipe.batch_size, recipe.seed)
        self.load = BatchLoader(sampler, reader, device, self._prepare, stride)

    def __call__(self, batch: int) -> tuple[Tensor, LabelledPairs, tuple[str, ...]]:
        """Views (2B, 3, S, S) in [0, 1], what they show, and names of photographs that cannot be read."""
        on_cpu, unreadable = self.load(batch)
        pairs = on_cpu.to(self.device)
        views = pairs.render(self.recipe.view_size).flatten(0, 1)
        return views.contiguous(memory_format=torch.channels_last), pairs, unreadable

    def _prepare(self, images: ImageBatch, generator: torch.Generator) -> LabelledPairs:
        recipe = self.recipe
        pairs = draw_view_pairs(images.pixels, recipe.view_size, 1, recipe.warps, recipe.colours, generator)
        classes = recipe.network.classes
        of_photographs = [[1.0 if name in image.labels else -1.0 for name in classes] for image in images.images]
        labels = torch.tensor(of_photographs).repeat_interleave(2, dim=0)
        shown, absent = (where.flatten().nonzero()[:, 0] for where in (labels > 0, labels < 0))
        return LabelledPairs(**vars(pairs), labels=labels, shown=shown, absent=absent)


class BankTask:
    """The banks, learnt from labels. tune_trunk: whether the trunk and the taps learn, too."""

    def __init__(self, network: AnchorNet, views: LabelledViews, *, tune_trunk: bool) -> None:
        self.network, self.views, self.recipe = network, views, views.recipe
        network.requires_grad_(tune_trunk)
        network.banks.requires_grad_(requires_grad=True)
        network.thresholds.requires_grad_()
        network.encoder.requires_grad_(requires_grad=False)

    def loss(self, batch: int, autocast: AbstractContextManager[object]) -> StepLoss:
        """The weighted sum of equations (1) to (4), each as a mean over filters."""
        views, pairs, unreadable = self.views(batch)
        with autocast:
            activations = self.network(views)
        config = self.recipe.network
        activations = activations.unflatten(1, (len(config.classes), config.filters))
        terms = self._image_terms(activations, pairs)
        if config.filters > 1:
            terms |= self._diversity_terms(activations.flatten(0, 1)[pairs.shown])
        weights = {"discriminability": 1.0} | {name: getattr(self.recipe, name) for name in list(terms)[1:]}
        loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        report = {name: term.detach() for name, term in terms.items()}
        return StepLoss(loss, report, images=len(views), unreadable=unreadable)

    def constrain(self) -> None:
        """Keep filters within the recipe's ``max_filter_norm``."""
        if self.recipe.max_filter_norm:
            self.network.limit_filters(self.recipe.max_filter_norm)

    def _image_terms(self, activations: Tensor, pairs: LabelledPairs) -> dict[str, Tensor]:
        """Equations (1) and (2); in (1) images with and without a class weigh the same."""
        count = self.recipe.network.filters
        thresholds = self.network.thresholds.reshape(-1, count)
        losses = discriminability_loss(activations, pairs.labels, thresholds, self.recipe.discriminability) / count
        of_shown, of_absent = (_mean(losses.flatten()[numbers]) for numbers in (pairs.shown, pairs.absent))
        return {
            "discriminability": (of_shown + of_absent) / 2,
            "auxiliary": _mean(auxiliary_loss(activations.flatten(0, 1)[pairs.absent])) / count,
        }

    def _diversity_terms(self, activations: Tensor) -> dict[str, Tensor]:
        """Equations (3) and (4), the latter of activations (M, K, h, w) on images that show the class."""
        count = self.recipe.network.filters
        pairs = count * (count - 1)
        filters = self.network.banks.weight.unflatten(0, (-1, count))  # type: ignore[no-untyped-call]
        return {
            "filter_diversity": filter_diversity_loss(filters).mean() / pairs,
            "response_diversity": _mean(response_diversity_loss(F.softplus(activations))) / pairs,
        }


class CodeTask:
    """The class-agnostic code, learnt from responses that no longer change."""

    def __init__(self, network: AnchorNet, views: LabelledViews) -> None:
        self.network, self.views, self.recipe = network, views, views.recipe
        network.requires_grad_(requires_grad=False)
        network.encoder.requires_grad_(requires_grad=True)

    def loss(self, batch: int, autocast: AbstractContextManager[object]) -> StepLoss:
        """L_R, with channels left out at random for each image."""
        views, _, unreadable = self.views(batch)
        with torch.no_grad(), autocast:
            responses = F.softplus(self.network(views))
        channels = self.recipe.network.responses
        random = np.random.default_rng((self.recipe.seed, batch, 1))
        kept = np.ones((len(views), channels), np.float32)
        for row in kept:
            row[random.permutation(channels)[: round(self.recipe.dropout * channels)]] = 0
        filters = self.network.encoder.weight[:, :, 0, 0]
        centred = self.network.centred(responses)
        loss = reconstruction_loss(centred, send(torch.from_numpy(kept), centred.device), filters)
        return StepLoss(loss, {}, images=len(views), unreadable=unreadable)


def _mean(values: Tensor) -> Tensor:
    """The mean; 0 for an empty tensor."""
    return values.sum() / max(1, values.numel())
