"""One step of learning from keypoints: pairs of photographs -> a warped view of each -> phi and sigma -> the loss."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.annotations import Box
from geomatch.datasets.image_folder import ImageBatch, ImageReader
from geomatch.datasets.keypoint_pairs import KeypointPair, KeypointView, PairSource
from geomatch.errors import InputError
from geomatch.features.introspection import IntrospectionNet
from geomatch.geometry.grid import read_cells
from geomatch.geometry.homography import apply_homography, random_view, stack_images
from geomatch.runtime.prefetch import Prefetch
from geomatch.training.augmentation import ViewPairs, random_colours
from geomatch.training.introspection.loss import IGNORED, introspection_loss, label_pairs, similarity_loss
from geomatch.training.keypoints.loss import contrastive_loss, soft_targets
from geomatch.training.keypoints.recipe import KeypointRecipe
from geomatch.training.letterbox import cell_centres
from geomatch.training.trainer import StepLoss

MAX_ENLARGEMENT = 3
"""Of a small object: what its box shows beside it fills the view."""

_VIEWS_TRIED = 8  # of a pair, before another one is drawn
_PAIRS_TRIED = 100  # for each pair of a batch


@dataclass(frozen=True)
class _Batch(ViewPairs):
    """P pairs of views before they are rendered: one view (V = 1) of each of 2P photographs, a pair's two in a row.

    points: (P, 2, K, 2), padded to the most keypoints that a pair has. shared: (P, K) bool, which keypoints both views
    show. ignored: (2P, N) bool, which cells show another object.
    """

    shared: Tensor
    ignored: Tensor


@dataclass(frozen=True)
class _DrawnPair:
    """A pair's pixels, the homographies (2, 3, 3) from its views, and its keypoints (2, K, 2), pixels of the views."""

    pair: KeypointPair
    pixels: Sequence[Tensor]
    homographies: Tensor
    points: Tensor

    @property
    def views(self) -> tuple[KeypointView, KeypointView]:
        return self.pair.first, self.pair.second


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
        self.recipe, self.network, self.reader, self.device = recipe, network.to(device), reader, device
        self.sources = sources
        weights = np.sqrt([source.photographs for source in sources])
        self.chances = weights / weights.sum()
        initial = deepcopy(network).eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.initial: IntrospectionNet = initial
        self.centres = cell_centres(recipe.view_size, network.stride, network.offset)
        self.upcoming = Prefetch(self._load, stride=stride)

    def loss(self, batch: int, autocast: AbstractContextManager[object]) -> StepLoss:
        """The loss of batch number ``batch``, and what the log reports of it. Raises InputError."""
        recipe = self.recipe
        known = len(self.reader.unreadable)
        images, on_cpu = self.upcoming(batch)
        self.reader.admit(images)
        assert on_cpu is not None  # else there was nothing to admit
        pairs = on_cpu.to(self.device)
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
        return StepLoss(loss, report, len(views), tuple(self.reader.unreadable[known:]))

    def _terms(self, pairs: _Batch, phi: Tensor, sigma: Tensor, source: int, target: int) -> Tensor:
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

    def _load(self, batch: int) -> tuple[ImageBatch, _Batch | None]:
        """The pairs of a batch; others stand in for those with a damaged photograph, or with keypoints outside."""
        recipe = self.recipe
        random = np.random.default_rng((recipe.seed, batch))
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        images, drawn = ImageBatch([], [], {}), []
        for _ in range(_PAIRS_TRIED * recipe.batch_size):
            pair = self.sources[random.choice(len(self.sources), p=self.chances)].draw(random)
            pixels = _read(pair, images)
            if pixels and (found := self._draw_views(pair, pixels, generator)):
                drawn.append(found)
            if len(drawn) == recipe.batch_size:
                images.pixels.extend(each for pair_drawn in drawn for each in pair_drawn.pixels)
                return images, self._prepare(drawn, generator)
        if images.damaged:  # `ImageReader.admit` says so
            return images, None
        raise InputError("no pair has keypoints that lie on both of its photographs")

    def _draw_views(
        self, pair: KeypointPair, pixels: Sequence[Tensor], generator: torch.Generator
    ) -> _DrawnPair | None:
        """Random views that show enough keypoints of a pair; None if several tries find none."""
        side = self.recipe.view_size
        views = (pair.first, pair.second)
        for _ in range(_VIEWS_TRIED):
            homographies = torch.stack(
                [self._draw_view(view, each, generator) for view, each in zip(views, pixels, strict=True)]
            )
            on_photographs = torch.stack([torch.from_numpy(view.points) for view in views])
            points = apply_homography(torch.linalg.inv(homographies), on_photographs)
            shown = ((points >= -0.5) & (points <= side - 0.5)).all(dim=2).all(dim=0)
            if shown.sum() >= min(self.recipe.least_shared, len(shown)):
                return _DrawnPair(pair, pixels, homographies, points[:, shown])
        return None

    def _draw_view(self, view: KeypointView, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """A random homography (3, 3) from a view to the photograph, about the square round the object's box."""
        size = self.recipe.view_size
        box = view.box or (-0.5, -0.5, pixels.shape[2] - 0.5, pixels.shape[1] - 0.5)
        side = max(round(max(box[2] - box[0], box[3] - box[1])), size // MAX_ENLARGEMENT)
        homography = random_view((side, side), size, self.recipe.warps, generator)
        shift = torch.eye(3, dtype=torch.float64)
        shift[0, 2], shift[1, 2] = ((box[axis] + box[axis + 2]) / 2 - (side - 1) / 2 for axis in (0, 1))
        flip = torch.eye(3, dtype=torch.float64)
        if view.mirrored:
            flip[0, 0], flip[0, 2] = -1, size - 1
        return shift @ homography @ flip

    def _prepare(self, drawn: Sequence[_DrawnPair], generator: torch.Generator) -> _Batch:
        stack, sizes = stack_images([pixels for each in drawn for pixels in each.pixels])
        changes = zip(*(random_colours(self.recipe.colours, generator) for _ in range(len(stack))), strict=True)
        mixing, contrast, shading = (torch.stack(change)[:, None] for change in changes)
        homographies = torch.cat([each.homographies for each in drawn])
        counts = torch.tensor([each.points.shape[1] for each in drawn])
        most = int(counts.max())
        points = torch.stack([F.pad(each.points, (0, 0, 0, most - each.points.shape[1])) for each in drawn])
        cells = apply_homography(homographies, self.centres)
        views = [view for each in drawn for view in each.views]
        ignored = torch.stack([_on_others(view, own) for view, own in zip(views, cells, strict=True)])
        batch = _Batch(
            stack,
            sizes,
            homographies[:, None],
            points,
            mixing,
            contrast,
            shading,
            shared=torch.arange(most) < counts[:, None],
            ignored=ignored,
        )
        return batch.pinned() if self.device.type == "cuda" else batch


def _read(pair: KeypointPair, images: ImageBatch) -> list[Tensor]:
    """The pixels of a pair's photographs, none if one is damaged, which is recorded."""
    pixels = []
    for view in (pair.first, pair.second):
        try:
            pixels.append(view.image.load())
        except InputError as error:
            images.damaged[view.image.name] = error
            return []
    return pixels


def _on_others(view: KeypointView, cells: Tensor) -> Tensor:
    """Which cells (N, 2), in pixels of the photograph, lie in the box of another object and not in the object's own."""
    others = torch.zeros(len(cells), dtype=torch.bool)
    for box in view.others:
        others |= _within(cells, box)
    return others if view.box is None else others & ~_within(cells, view.box)


def _within(points: Tensor, box: Box) -> Tensor:
    left, top, right, bottom = box
    return ((points >= points.new_tensor([left, top])) & (points <= points.new_tensor([right, bottom]))).all(dim=1)
