"""From partners of cells to a flow for every pixel, with its confidence and its validity."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from geomatch.correspondence import Correspondence, FeatureMap
from geomatch.geometry import Grid, read_cells
from geomatch.matching.confidence import Hearing, MatchPosterior, hear
from geomatch.matching.search import Partners, row_blocks


@dataclass(frozen=True)
class Densification:
    """How partners become flow.

    window: radius, in cells, of the neighbourhood of a partner that its position is refined over.
    temperature: of the soft-argmax over that neighbourhood, in units of cosine similarity.
    hearing, posterior: what speaks for a match, and how that becomes confidence.
    cycle_tolerance: how far from where it started matching there and back may end for a match to be valid, as a
        share of the source's longer side.
    min_confidence: what a match needs to be valid.
    """

    window: int = 1
    temperature: float = 0.05
    hearing: Hearing = field(default_factory=Hearing)
    posterior: MatchPosterior = field(default_factory=MatchPosterior)
    cycle_tolerance: float = 0.1
    min_confidence: float = 0.0


def densify(
    source: FeatureMap, target: FeatureMap, partners: Partners, how: Densification, max_bytes: int
) -> Correspondence:
    """Refine partners below a cell, spread them over the source's pixels, and judge them."""
    there = refine(source, target, partners.forward, how, max_bytes)
    back = refine(target, source, partners.backward, how, max_bytes)
    start = source.grid.centres(there.device)
    landing = target.grid.to_pixels(there)

    back_displacement = source.grid.to_pixels(back) - target.grid.centres(back.device)
    back_map = back_displacement.mT.reshape(1, 2, *target.grid.shape)
    returned = landing + read_cells(back_map, there[None])[0].mT
    cycle_error = (returned - start).norm(dim=1) / max(source.image_size)

    to_pixels = Spread.over(source.grid, source.image_size, there.device)
    flow = to_pixels(landing - start)
    inside = _lands_inside(flow, target.image_size)
    consistent = to_pixels(cycle_error[:, None])[0] <= how.cycle_tolerance
    evidence = hear(source, target, partners.forward, landing, how.hearing, max_bytes)
    confidence = to_pixels(how.posterior(evidence)[:, None])[0].clamp_(0, 1)
    return Correspondence(
        flow=flow,
        confidence=confidence,
        valid=inside & consistent & (confidence >= how.min_confidence),
        source_size=source.image_size,
        target_size=target.image_size,
    )


def refine(source: FeatureMap, target: FeatureMap, partners: Tensor, how: Densification, max_bytes: int) -> Tensor:
    """Move each partner to the soft-argmax of similarity over the window around it.

    partners: (N,) target cell of each source cell. Returns fractional target cells (N, 2), x then y. Cells of the
    window that fall off the grid have no weight.
    """
    a, b = (features.descriptors.flatten(1).mT.contiguous() for features in (source, target))
    position = target.grid.cells(a.device)
    refined = torch.empty(len(partners), 2, device=a.device)
    for begin, end in row_blocks(len(partners), (2 * how.window + 1) ** 2 * a.shape[1], max_bytes):
        near, on_grid = target.grid.around(partners[begin:end], how.window)
        windows = b.index_select(0, near.flatten()).reshape(*near.shape, -1)
        scores = (a[begin:end, None] * windows).sum(dim=2)
        weights = torch.softmax(scores.masked_fill(~on_grid, -torch.inf) / how.temperature, dim=1)
        refined[begin:end] = torch.einsum("nk,nkd->nd", weights, position[near])
    return refined


@dataclass(frozen=True)
class Spread:
    """Bilinear interpolation from the cells of a grid to all pixels of its image, as two small matrix products.

    rows: (H, h) and columns: (W, w), the weight of each cell for each pixel. Beyond the outermost centres the
    nearest cell holds.
    """

    rows: Tensor
    columns: Tensor

    @classmethod
    def over(cls, grid: Grid, image_size: tuple[int, int], device: torch.device) -> Spread:
        return cls(
            _axis_weights(image_size[0], grid.height, grid.origin[1], grid.pitch[1]).to(device),
            _axis_weights(image_size[1], grid.width, grid.origin[0], grid.pitch[0]).to(device),
        )

    def __call__(self, cell_values: Tensor) -> Tensor:
        """Values (h * w, C) of cells in row-major order to (C, H, W) of pixels."""
        maps = cell_values.mT.reshape(-1, self.rows.shape[1], self.columns.shape[1])
        return self.rows @ (maps @ self.columns.mT)


def _axis_weights(length: int, cells: int, origin: float, pitch: float) -> Tensor:
    position = ((torch.arange(length, dtype=torch.float64) - origin) / pitch).clamp(0, cells - 1)
    return (1 - (position[:, None] - torch.arange(cells)).abs()).clamp(min=0).float()


def _lands_inside(flow: Tensor, target_size: tuple[int, int]) -> Tensor:
    height, width = flow.shape[1:]
    x = flow[0] + torch.arange(width, device=flow.device)
    y = flow[1] + torch.arange(height, device=flow.device)[:, None]
    return (x >= -0.5) & (x <= target_size[1] - 0.5) & (y >= -0.5) & (y <= target_size[0] - 0.5)
