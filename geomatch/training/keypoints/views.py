"""Pairs of photographs as warped views with the keypoints that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.annotations import Box
from geomatch.datasets.image_folder import ImageBatch, ImageReader
from geomatch.datasets.keypoint_pairs import KeypointPair, KeypointView, PairSource
from geomatch.errors import InputError
from geomatch.geometry.homography import WarpRanges, apply_homography, random_view, stack_images
from geomatch.parameters import check_limits
from geomatch.runtime.prefetch import Prefetch
from geomatch.training.augmentation import ColourRanges, ViewPairs, random_colours

MAX_ENLARGEMENT = 3
"""Of a small object: what its box shows beside it fills the view."""

_VIEWS_TRIED = 8  # of a pair, before another one is drawn
PAIRS_TRIED = 100  # for each pair of a batch

NO_PAIR = "no pair has keypoints that lie on both of its photographs"


@dataclass(frozen=True, kw_only=True)
class ViewRecipe:
    """Which pairs are drawn, and how they are seen.

    view_size: side of the square views, in pixels. batch_size: pairs of photographs of a batch, each shown in one view.
    classes: categories to learn from; empty: all. left_out: names of keypoints that are not learnt from. across: share
    of the pairs that are of two categories, where keypoints have names. least_shared: keypoints that a pair must share.
    warps: views relative to the square round an object's box.
    """

    view_size: int = 193
    batch_size: int = 2
    classes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    across: float = 0.5
    least_shared: int = 3
    warps: WarpRanges = field(default_factory=lambda: WarpRanges(smallest_view=0.8, largest_view=1.5))
    colours: ColourRanges = field(default_factory=ColourRanges)
    seed: int = 0

    def check_views(self, owner: str) -> None:
        """Raise InputError, naming the ``owner``, for a value beyond its limits."""
        check_limits(self, owner, "seed")
        check_limits(self, owner, "batch_size least_shared", 1)
        check_limits(self, owner, "across", 0, 1)
        check_limits(self, owner, "view_size", 64)


@dataclass(frozen=True)
class PairViews(ViewPairs):
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


class PairLoader:
    """Reads the pairs of a batch in threads, which end on leaving ``upcoming``.

    centres: (N, 2), pixels of a view, the cells of which `PairViews.ignored` speaks.
    """

    def __init__(
        self,
        recipe: ViewRecipe,
        sources: Sequence[PairSource],
        reader: ImageReader,
        device: torch.device,
        centres: Tensor,
        stride: int = 1,
    ) -> None:
        """stride: between the numbers of the batches asked for."""
        self.recipe, self.sources, self.reader, self.device = recipe, sources, reader, device
        self.centres = centres
        self.upcoming = Prefetch(self._load, stride=stride)
        self._named = 0

    def __call__(self, batch: int) -> PairViews:
        """Batch number ``batch`` on the device.

        Raises InputError if too many photographs cannot be read, or no pair has keypoints on both of its photographs.
        """
        images, on_cpu = self.upcoming(batch)
        self.reader.admit(images)
        assert on_cpu is not None  # else there was nothing to admit
        return on_cpu.to(self.device)

    def newly_unreadable(self) -> tuple[str, ...]:
        """The names of photographs that could not be read, each once."""
        names = tuple(self.reader.unreadable[self._named :])
        self._named += len(names)
        return names

    def _load(self, batch: int) -> tuple[ImageBatch, PairViews | None]:
        """The pairs of a batch; others stand in for those with a damaged photograph, or with keypoints outside."""
        recipe = self.recipe
        random = np.random.default_rng((recipe.seed, batch))
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        images, drawn = ImageBatch([], [], {}), []
        for _ in range(PAIRS_TRIED * recipe.batch_size):
            pair = draw_pair(self.sources, random)
            pixels = _read(pair, images)
            if pixels and (found := self._draw_views(pair, pixels, generator)):
                drawn.append(found)
            if len(drawn) == recipe.batch_size:
                images.pixels.extend(each for pair_drawn in drawn for each in pair_drawn.pixels)
                return images, self._prepare(drawn, generator)
        if images.damaged:  # `ImageReader.admit` says so
            return images, None
        raise InputError(NO_PAIR)

    def _draw_views(
        self, pair: KeypointPair, pixels: Sequence[Tensor], generator: torch.Generator
    ) -> _DrawnPair | None:
        """Random views that show enough keypoints of a pair; None if several tries find none."""
        views = (pair.first, pair.second)
        for _ in range(_VIEWS_TRIED):
            homographies = torch.stack(
                [draw_view(view, each, self.recipe, generator) for view, each in zip(views, pixels, strict=True)]
            )
            points = shown_points(pair, homographies, self.recipe)
            if points is not None:
                return _DrawnPair(pair, pixels, homographies, points)
        return None

    def _prepare(self, drawn: Sequence[_DrawnPair], generator: torch.Generator) -> PairViews:
        stack, sizes = stack_images([pixels for each in drawn for pixels in each.pixels])
        changes = zip(*(random_colours(self.recipe.colours, generator) for _ in range(len(stack))), strict=True)
        mixing, contrast, shading = (torch.stack(change)[:, None] for change in changes)
        homographies = torch.cat([each.homographies for each in drawn])
        counts = torch.tensor([each.points.shape[1] for each in drawn])
        most = int(counts.max())
        points = torch.stack([F.pad(each.points, (0, 0, 0, most - each.points.shape[1])) for each in drawn])
        ignored = on_others([view for each in drawn for view in each.views], homographies, self.centres)
        batch = PairViews(
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


def draw_pair(sources: Sequence[PairSource], random: np.random.Generator) -> KeypointPair:
    """A pair of one of the sources, which are drawn with the square root of their size as weight."""
    weights = np.sqrt([source.photographs for source in sources])
    return sources[random.choice(len(sources), p=weights / weights.sum())].draw(random)


def draw_view(view: KeypointView, pixels: Tensor, recipe: ViewRecipe, generator: torch.Generator) -> Tensor:
    """A random homography (3, 3) from a view to its photograph (3, H, W), about the square round the object's box."""
    size = recipe.view_size
    box = view.box or (-0.5, -0.5, pixels.shape[2] - 0.5, pixels.shape[1] - 0.5)
    side = max(round(max(box[2] - box[0], box[3] - box[1])), size // MAX_ENLARGEMENT)
    homography = random_view((side, side), size, recipe.warps, generator)
    shift = torch.eye(3, dtype=torch.float64)
    shift[0, 2], shift[1, 2] = ((box[axis] + box[axis + 2]) / 2 - (side - 1) / 2 for axis in (0, 1))
    flip = torch.eye(3, dtype=torch.float64)
    if view.mirrored:
        flip[0, 0], flip[0, 2] = -1, size - 1
    return shift @ homography @ flip


def shown_points(pair: KeypointPair, homographies: Tensor, recipe: ViewRecipe) -> Tensor | None:
    """The keypoints (2, K, 2) of a pair that both of its views show, in their pixels; None if they are too few.

    homographies: (2, 3, 3), from the views to the photographs.
    """
    on_photographs = torch.stack([torch.from_numpy(view.points) for view in (pair.first, pair.second)])
    points = apply_homography(torch.linalg.inv(homographies), on_photographs)
    shown = ((points >= -0.5) & (points <= recipe.view_size - 0.5)).all(dim=2).all(dim=0)
    return points[:, shown] if shown.sum() >= min(recipe.least_shared, len(shown)) else None


def on_others(views: Sequence[KeypointView], homographies: Tensor, centres: Tensor) -> Tensor:
    """Which cells of V views, centred at ``centres`` (N, 2) of each, show another object: (V, N) bool.

    homographies: (V, 3, 3), from the views to the photographs.
    """
    cells = apply_homography(homographies, centres)
    return torch.stack([_on_others(view, own) for view, own in zip(views, cells, strict=True)])


def _on_others(view: KeypointView, cells: Tensor) -> Tensor:
    """Which cells (N, 2), in pixels of the photograph, lie in the box of another object and not in the object's own."""
    others = torch.zeros(len(cells), dtype=torch.bool)
    for box in view.others:
        others |= _within(cells, box)
    return others if view.box is None else others & ~_within(cells, view.box)


def _within(points: Tensor, box: Box) -> Tensor:
    left, top, right, bottom = box
    return ((points >= points.new_tensor([left, top])) & (points <= points.new_tensor([right, bottom]))).all(dim=1)
