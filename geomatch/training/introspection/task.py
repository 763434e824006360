"""One step of Probabilistic Introspection: photographs -> two warped views each -> phi and sigma -> the loss.

The paper's loss is the likelihood of the scores of 700 corresponding points a pair. We add a term that keeps the
similarities *between* photographs as a teacher has them (`geomatch.training.introspection.teacher`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geomatch.datasets.image_folder import ImageBatch, ImageReader
from geomatch.datasets.image_list import LabelledImage
from geomatch.features.introspection import IntrospectionNet
from geomatch.geometry.homography import apply_homography
from geomatch.runtime.device import send
from geomatch.training.augmentation import ViewPairs, draw_view_pairs
from geomatch.training.introspection.loss import features_at, introspection_loss, label_pairs, similarity_loss
from geomatch.training.introspection.recipe import IntrospectionRecipe
from geomatch.training.introspection.teacher import Teacher
from geomatch.training.letterbox import cell_centres, inside, letterbox_homography
from geomatch.training.sampler import BatchLoader, BatchSampler
from geomatch.training.trainer import StepLoss


@dataclass(frozen=True)
class _Batch(ViewPairs):
    """The view pairs of B photographs before they are rendered, and what the teacher sees.

    letterbox: (B, 1, 3, 3) float64, from the teacher's square to the photograph. cells: (B, 2N, 2), pixels of that
    square: the centres of the cells of both views. on_photograph: (B, 2N) bool, which cells lie on the photograph.
    """

    letterbox: Tensor
    cells: Tensor
    on_photograph: Tensor


class IntrospectionTask:
    """The network to train, and the loss of a given batch."""

    def __init__(
        self,
        recipe: IntrospectionRecipe,
        network: IntrospectionNet,
        photographs: Sequence[LabelledImage],
        reader: ImageReader,
        device: torch.device,
        teacher: Teacher | None = None,
        stride: int = 1,
    ) -> None:
        """teacher: needed unless the recipe's ``similarity_weight`` is 0. stride: as for `BatchLoader`."""
        self.recipe = recipe
        self.network = network.to(device)
        self.device = device
        self.teacher = None if teacher is None else teacher.to(device)
        sampler = BatchSampler(photographs, recipe.batches, recipe.batch_size, recipe.seed)
        self.load = BatchLoader(sampler, reader, device, self._prepare, stride)

    def loss(self, batch: int, autocast: AbstractContextManager[object]) -> StepLoss:
        """The loss of batch number ``batch``, and what the log reports of it."""
        recipe = self.recipe
        on_cpu, unreadable = self.load(batch)
        pairs = on_cpu.to(self.device)
        # All first views before all second ones.
        views = pairs.render(recipe.view_size).transpose(0, 1).flatten(0, 1)
        views = views.contiguous(memory_format=torch.channels_last)
        photographs = None if self.teacher is None else self._letterboxed(pairs)
        with autocast:
            phi, sigma = self.network(views)
            taught = None if self.teacher is None else self.teacher(photographs, pairs.cells)
        points = pairs.points.unbind(dim=1)
        labels = label_pairs(points[1], recipe.positive_radius, recipe.negative_radius)
        cells = [(each - self.network.offset) / self.network.stride for each in points]
        first, second = map(features_at, cells, phi.chunk(2), sigma.chunk(2))
        likelihood = introspection_loss(first, second, labels, recipe.hardest)
        loss, report = likelihood, {"likelihood": likelihood.detach(), "sigma": sigma.detach().mean()}
        if taught is not None:
            chosen = send(self._choose_cells(on_cpu.on_photograph, batch), phi.device)
            student = torch.cat(phi.flatten(2).chunk(2), dim=2).mT.flatten(0, 1)
            similarity = similarity_loss(student[chosen], taught.flatten(0, 1)[chosen])
            loss = loss + recipe.similarity_weight * similarity
            report["similarity"] = similarity.detach()
        return StepLoss(loss, report, len(views), unreadable)

    def _prepare(self, images: ImageBatch, generator: torch.Generator) -> _Batch:
        recipe = self.recipe
        pairs = draw_view_pairs(images.pixels, recipe.view_size, recipe.points, recipe.warps, recipe.colours, generator)
        sizes = [(pixels.shape[1], pixels.shape[2]) for pixels in images.pixels]
        letterbox = torch.stack([letterbox_homography(size, recipe.teacher_size) for size in sizes])
        centres = cell_centres(recipe.view_size, self.network.stride, self.network.offset)
        cells = apply_homography(pairs.homographies, centres).flatten(1, 2)
        on_photograph = torch.stack([inside(points, size) for points, size in zip(cells, sizes, strict=True)])
        in_square = apply_homography(torch.linalg.inv(letterbox), cells)
        return _Batch(**vars(pairs), letterbox=letterbox[:, None], cells=in_square, on_photograph=on_photograph)

    def _letterboxed(self, pairs: _Batch) -> Tensor:
        """The whole photographs (B, 3, T, T), as the teacher sees them."""
        photographs = pairs.warp(pairs.letterbox, self.recipe.teacher_size)[:, 0]
        return photographs.contiguous(memory_format=torch.channels_last)

    def _choose_cells(self, on_photograph: Tensor, batch: int) -> Tensor:
        """Random cells of the batch that lie on their photograph: indices (K,) into all B x 2N."""
        candidates = on_photograph.flatten().nonzero()[:, 0]
        order = np.random.default_rng((self.recipe.seed, batch, 1)).permutation(len(candidates))
        return candidates[torch.from_numpy(order[: self.recipe.similarity_cells])]
