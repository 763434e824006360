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
import torch.nn.functional as F
from torch import Tensor

from geomatch.datasets.image_folder import ImageBatch, ImageReader, LabelledImage
from geomatch.features.introspection import IntrospectionNet
from geomatch.geometry.grid import read_cells
from geomatch.geometry.homography import apply_homography, pixel_grid
from geomatch.runtime.prefetch import Prefetch
from geomatch.training.augmentation import ViewPairs, draw_view_pairs
from geomatch.training.introspection.loss import introspection_loss, label_pairs, similarity_loss
from geomatch.training.introspection.recipe import IntrospectionRecipe
from geomatch.training.introspection.teacher import Teacher
from geomatch.training.letterbox import inside, letterbox_homography
from geomatch.training.sampler import BatchSampler
from geomatch.training.trainer import StepLoss


@dataclass(frozen=True)
class _PreparedBatch(ViewPairs):
    """The view pairs of a batch before they are rendered, and what the teacher sees.

    letterbox: (B, 1, 3, 3) float64, from the teacher's square to the photograph. cells, on_photograph: as in `_Batch`.
    """

    letterbox: Tensor
    cells: Tensor
    on_photograph: Tensor


@dataclass(frozen=True)
class _Batch:
    """Two views each of B photographs.

    views: (2B, 3, S, S), all first views before all second ones. points: the pixels (B, K, 2) of corresponding points
    in first and in second views. photographs: (B, 3, T, T), letterboxed, as the teacher sees them, if there is one.
    cells: (B, 2N, 2), pixels on those of the cells of the first, then of the second view. on_photograph: (B, 2N) bool
    on the CPU, which cells lie on the photograph itself, not on what is mirrored around it.
    """

    views: Tensor
    points: tuple[Tensor, Tensor]
    photographs: Tensor | None
    cells: Tensor
    on_photograph: Tensor


class IntrospectionTask:
    """The network to train, and the loss of a given batch.

    A batch's photographs, warps and points depend on the seed and its number alone, so training resumed at a step goes
    on as if never stopped. ``upcoming`` prepares batches in threads, which end on leaving it as a context.
    """

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
        """teacher: needed unless the recipe's ``similarity_weight`` is 0. stride: between the batches asked for."""
        self.recipe = recipe
        self.network = network.to(device)
        self.device = device
        self.reader = reader
        self.teacher = None if teacher is None else teacher.to(device)
        self.sampler = BatchSampler(photographs, recipe.batches, recipe.batch_size, recipe.seed)
        self.upcoming = Prefetch(self._prepare, stride=stride)

    def loss(self, batch: int, autocast: AbstractContextManager[object]) -> StepLoss:
        """The loss of batch number ``batch``, and what the log reports of it."""
        recipe = self.recipe
        known = len(self.reader.unreadable)
        shown = self._render(batch)
        with autocast:
            phi, sigma = self.network(shown.views)
            taught = None if self.teacher is None else self.teacher(shown.photographs, shown.cells)
        labels = label_pairs(shown.points[1], recipe.positive_radius, recipe.negative_radius)
        first, second = (
            self._features_at(points, maps, sigmas)
            for points, maps, sigmas in zip(shown.points, phi.chunk(2), sigma.chunk(2), strict=True)
        )
        likelihood = introspection_loss(first, second, labels, recipe.hardest)
        loss, report = likelihood, {"likelihood": likelihood.detach(), "sigma": sigma.detach().mean()}
        if taught is not None:
            chosen = self._choose_cells(shown.on_photograph, batch).to(phi.device, non_blocking=True)
            student = torch.cat(phi.flatten(2).chunk(2), dim=2).mT.flatten(0, 1)
            similarity = similarity_loss(student[chosen], taught.flatten(0, 1)[chosen])
            loss = loss + recipe.similarity_weight * similarity
            report["similarity"] = similarity.detach()
        return StepLoss(loss, report, len(shown.views), tuple(self.reader.unreadable[known:]))

    def _prepare(self, batch: int) -> tuple[ImageBatch, _PreparedBatch | None]:
        """In a background thread: read and warp the photographs of a batch; None if none of them can be read."""
        recipe = self.recipe
        photographs, count, generator = self.sampler.draw(batch)
        reading = self.reader.attempt(photographs, count)
        if not reading.pixels:
            return reading, None
        pairs = draw_view_pairs(
            reading.pixels, recipe.view_size, recipe.points, recipe.warps, recipe.colours, generator
        )
        sizes = [(pixels.shape[1], pixels.shape[2]) for pixels in reading.pixels]
        letterbox = torch.stack([letterbox_homography(size, recipe.teacher_size) for size in sizes])
        cells = apply_homography(pairs.homographies, self._cell_centres()).flatten(1, 2)
        on_photograph = torch.stack([inside(points, size) for points, size in zip(cells, sizes, strict=True)])
        prepared = _PreparedBatch(
            **vars(pairs),
            letterbox=letterbox[:, None],
            cells=apply_homography(torch.linalg.inv(letterbox), cells),
            on_photograph=on_photograph,
        )
        return reading, prepared.pinned() if self.device.type == "cuda" else prepared

    def _render(self, batch: int) -> _Batch:
        reading, on_cpu = self.upcoming(batch)
        self.reader.admit(reading)
        assert on_cpu is not None  # else there was nothing to admit
        prepared = on_cpu.to(self.device)
        views = prepared.render(self.recipe.view_size).transpose(0, 1).flatten(0, 1)
        first, second = prepared.points.unbind(dim=1)
        photographs = None
        if self.teacher is not None:
            photographs = prepared.warp(prepared.letterbox, self.recipe.teacher_size)[:, 0]
            photographs = photographs.contiguous(memory_format=torch.channels_last)
        views = views.contiguous(memory_format=torch.channels_last)
        return _Batch(views, (first, second), photographs, prepared.cells, on_cpu.on_photograph)

    def _cell_centres(self) -> Tensor:
        """The centres of a view's cells, (N, 2) float64 pixels, row by row."""
        cells = -(-self.recipe.view_size // self.network.stride)
        return self.network.stride * pixel_grid(cells, cells)

    def _features_at(self, points: Tensor, phi: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Descriptors (B, K, C) of unit length and sigmas (B, K) at pixels (B, K, 2) of the views."""
        cells = points / self.network.stride  # where the trunk centres them
        return F.normalize(read_cells(phi, cells), dim=1).mT, read_cells(sigma, cells)[:, 0]

    def _choose_cells(self, on_photograph: Tensor, batch: int) -> Tensor:
        """Random cells of the batch that lie on their photograph: indices (K,) into all B x 2N."""
        candidates = on_photograph.flatten().nonzero()[:, 0]
        order = np.random.default_rng((self.recipe.seed, batch, 1)).permutation(len(candidates))
        return candidates[torch.from_numpy(order[: self.recipe.similarity_cells])]
