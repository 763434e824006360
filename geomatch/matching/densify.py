"""Target points of cells interpolated to a flow for every pixel, with confidence and validity."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.correspondence import Correspondence, pixels_allowed
from geomatch.errors import InputError
from geomatch.geometry.grid import Grid
from geomatch.geometry.mask import cells_inside
from geomatch.matching.base import MatchContext, TargetPoints
from geomatch.matching.confidence import CueSettings, confidence_both_ways
from geomatch.matching.refinement.fine_search import search_fine_maps
from geomatch.options import Refine

_PIXELS_AT_ONCE = 1 << 18  # 30 MiB


@dataclass(frozen=True)
class Densification:
    """How target points become flow.

    cues: how the cues of the confidence model are computed.
    cycle_tolerance: largest distance from its start at which matching forward and back may end for a match to be
        valid, as a share of the longer side of the source's view.
    min_confidence: the confidence in [0, 1] that a match needs to be valid. Raises InputError for other numbers.
    refine: whether the flow is searched again on fine maps, if the features have them (`search_fine_maps`). Confidence
        and the cycle are those of the matcher's target points either way.
    """

    cues: CueSettings = field(default_factory=CueSettings)
    cycle_tolerance: float = 0.1
    min_confidence: float = 0.0
    refine: Refine = Refine.on

    def __post_init__(self) -> None:
        if not (isinstance(self.min_confidence, int | float) and 0 <= self.min_confidence <= 1):
            raise InputError(f"min_confidence is {self.min_confidence}: it must be between 0 and 1")


def densify(context: MatchContext, forward: TargetPoints, backward: TargetPoints, how: Densification) -> Correspondence:
    """Interpolate target points to a flow for every source pixel, with confidence and validity.

    forward, backward: where the source lies in the target, and the target in the source.
    """
    confidence, _ = confidence_both_ways(context, forward, backward, how.cues)
    return _to_pixels(context, forward, backward, confidence, how)


def densify_both_ways(
    context: MatchContext, forward: TargetPoints, backward: TargetPoints, how: Densification
) -> tuple[Correspondence, Correspondence]:
    """`densify` from source to target, and from target to source."""
    there, back = confidence_both_ways(context, forward, backward, how.cues)
    return (
        _to_pixels(context, forward, backward, there, how),
        _to_pixels(context.reversed, backward, forward, back, how),
    )


def _to_pixels(
    context: MatchContext, forward: TargetPoints, backward: TargetPoints, confidence: Tensor, how: Densification
) -> Correspondence:
    source, target = context.source, context.target
    start = forward.grid.centres(forward.positions.device)
    cycle_error = (backward.at(forward.positions) - start).norm(dim=1) / source.longer_side
    to_pixels = PixelInterpolation.over(forward.grid, source.image_size, start.device)
    final = (search_fine_maps(context, forward) if how.refine is Refine.on else None) or forward
    flow = interpolate_displacements(final.displacements(), final.grid, source.image_size)
    valid = to_pixels.mean_inside(cycle_error, source.mask, forward.grid) <= how.cycle_tolerance
    valid &= pixels_allowed(flow, target.image_size, source.mask, target.mask)
    if forward.found is not None:
        valid &= to_pixels(forward.found.float()[:, None])[0] >= 0.5

    if source.grid != forward.grid:
        to_pixels = PixelInterpolation.over(source.grid, source.image_size, start.device)
    confidence = to_pixels.mean_inside(confidence, source.mask, source.grid).clamp_(0, 1)
    if source.mask is not None:
        confidence *= source.mask
    return Correspondence(
        flow=flow,
        confidence=confidence,
        valid=valid & (confidence >= how.min_confidence),
        source_size=source.image_size,
        target_size=target.image_size,
        regions=forward.regions,
        source_mask=source.mask,
        target_mask=target.mask,
    )


@dataclass(frozen=True)
class PixelInterpolation:
    """Bilinear interpolation from the cells of a grid to all pixels of its image, as two small matrix products.

    rows: (H, h) and columns: (W, w), the weight of each cell for each pixel. Beyond the outermost centres the
    nearest cell holds.
    """

    rows: Tensor
    columns: Tensor

    @classmethod
    def over(cls, grid: Grid, image_size: tuple[int, int], device: torch.device) -> PixelInterpolation:
        return cls(
            _axis_weights(image_size[0], grid.height, grid.origin[1], grid.pitch[1], device),
            _axis_weights(image_size[1], grid.width, grid.origin[0], grid.pitch[0], device),
        )

    def __call__(self, cell_values: Tensor) -> Tensor:
        """Values (h * w, C) of cells in row-major order to (C, H, W) of pixels."""
        maps = cell_values.mT.reshape(-1, self.rows.shape[1], self.columns.shape[1])
        return self.rows @ (maps @ self.columns.mT)

    def mean_inside(self, cell_values: Tensor, mask: Tensor | None, grid: Grid) -> Tensor:
        """Values (h * w,) of a grid's cells to (H, W) of pixels, of which cells outside a mask (H, W) have no part."""
        if mask is None:
            return self(cell_values[:, None])[0]
        inside = cells_inside(mask, grid).to(cell_values)
        sums = self(torch.stack((cell_values * inside, inside), dim=1))
        return sums[0] / sums[1].clamp(min=1e-6)


def interpolate_displacements(displacements: Tensor, grid: Grid, image_size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation of displacements (h * w, 2) to a flow (2, H, W), but never between different matches.

    The mean of two matches that lie far apart is a match of neither. So each pixel takes the side of one of the four
    cells around it, and only cells that agree with that one count: with a_ij = 1 if the displacements of the cells i
    and j differ by at most two cells, 0 from four on, and linear between, the pixel takes the side of the cell i of
    greatest sum_j w_j a_ij, w being the bilinear weights, and cell j then has the weight w_j a_ij. Where all four
    agree, this is plain bilinear interpolation.
    """
    device = displacements.device
    flow = PixelInterpolation.over(grid, image_size, device)(displacements)
    top, down = _neighbours(image_size[0], grid.height, grid.origin[1], grid.pitch[1], device)
    left, right = _neighbours(image_size[1], grid.width, grid.origin[0], grid.pitch[0], device)
    field = F.pad(displacements.mT.reshape(1, 2, *grid.shape), (0, 1, 0, 1), mode="replicate")[0]
    corners = torch.stack([field[:, dy:, dx:][:, : grid.height, : grid.width] for dy in (0, 1) for dx in (0, 1)])
    difference = torch.linalg.vector_norm(corners[:, None] - corners, dim=2) / max(grid.pitch)
    agreement = (2 - difference / 2).clamp_(0, 1)  # (4, 4, h, w) of every four neighbouring cells
    torn = (agreement < 1).flatten(0, 1).any(dim=0)
    for pixels in torn[top[:, None], left].nonzero().split(_PIXELS_AT_ONCE):
        y, x = pixels.unbind(dim=1)
        shares = torch.stack([b * a for b in (1 - down[y], down[y]) for a in (1 - right[x], right[x])])
        agreeing = shares * agreement[:, :, top[y], left[x]]
        best = agreeing.sum(dim=1).argmax(dim=0)
        weights = agreeing.take_along_dim(best[None, None], dim=0)[0]
        flow[:, y, x] = torch.einsum("in,icn->cn", weights / weights.sum(dim=0), corners[:, :, top[y], left[x]])
    return flow


def _neighbours(length: int, cells: int, origin: float, pitch: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """The cell (length,) before each pixel along an axis, and the share (length,) of the way to the next one."""
    position = _along_axis(length, cells, origin, pitch, device)
    return position.floor().long().to(device), position.frac().float().to(device)


def _axis_weights(length: int, cells: int, origin: float, pitch: float, device: torch.device) -> Tensor:
    position = _along_axis(length, cells, origin, pitch, device)
    cell = torch.arange(cells, device=position.device)
    return (1 - (position[:, None] - cell).abs()).clamp(min=0).float().to(device)


def _along_axis(length: int, cells: int, origin: float, pitch: float, device: torch.device) -> Tensor:
    """The position (length,) of each pixel along an axis, in cells, float64: on the CPU if the device has none."""
    device = torch.device("cpu") if device.type == "mps" else device
    pixels = torch.arange(length, dtype=torch.float64, device=device)
    return ((pixels - origin) / pitch).clamp(0, cells - 1)
