"""What each label costs each node of the pyramid: how different its cells look from where the label sends them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.geometry.grid import Grid, rescale_position
from geomatch.matching.base import MatchContext
from geomatch.matching.similarity import row_blocks
from geomatch.matching.spatial_pyramid.belief_propagation import count_nodes


@dataclass(frozen=True)
class Labels:
    """What a node may do: become ``scales[s]`` times larger, and move by up to ``reach`` cells along y and x."""

    scales: tuple[float, ...]
    reach: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.scales), 2 * self.reach + 1, 2 * self.reach + 1

    def read(self, numbers: Tensor) -> Tensor:
        """Labels (N,), numbered in row-major order, as (N, 3) float32: scale, then cells along x and y."""
        _, height, width = self.shape
        scales = torch.tensor(self.scales, device=numbers.device)[numbers // (height * width)]
        return torch.stack((scales, numbers % width - self.reach, numbers // width % height - self.reach), dim=1)


def node_costs(context: MatchContext, labels: Labels, levels: int, truncation: float) -> Tensor:
    """D (nodes, *labels.shape) float32: what each label costs each node of the source's pyramid.

    D is the mean over the node's cells q of min(||d(q) - d'(q')||, truncation), where q' is the target cell that the
    label sends q to; it counts as truncation if q' is off the target's grid or outside its mask. Cells outside the
    source's mask do not count. All D of a level are divided by their mean. Nodes without cells, as on grids narrower
    than their level, cost nothing. Nodes are numbered as in `belief_propagation`.
    """
    sums, sizes = _leaf_sums(context, labels, levels, truncation)
    costs = []
    for level in reversed(range(levels)):
        mean = sums / sizes.clamp(min=1)[:, None]
        usual = mean.sum() / ((sizes > 0).sum() * sums.shape[1])
        costs.append(mean / usual.clamp(min=torch.finfo(mean.dtype).tiny))
        if level > 0:
            sums, sizes = _sums_of_quarters(sums), _sums_of_quarters(sizes[:, None])[:, 0]
    return torch.cat(costs[::-1]).reshape(-1, *labels.shape)


def _leaf_sums(context: MatchContext, labels: Labels, levels: int, truncation: float) -> tuple[Tensor, Tensor]:
    """The truncated distances of each label summed over the cells of each smallest node (leaves, labels), and how many
    cells each has (leaves,), float32."""
    source, target, device = context.source.grid, context.target.grid, context.source.descriptors.device
    leaves, displacements = 4 ** (levels - 1), labels.shape[1] * labels.shape[2]
    leaf = leaf_of_cells(source, levels, device)
    scales = torch.tensor(labels.scales, device=device)
    homes = [nearest_cells(home_cells(source, target, scale)) for scale in scales]
    sums = torch.zeros(leaves, len(homes), displacements, device=device)
    counts = torch.ones(len(leaf), device=device) if context.source.inside is None else context.source.inside.float()
    free = context.max_bytes - 4 * math.prod(labels.shape) * count_nodes(levels)
    for cells, distances in distance_blocks(context, displacements + leaves, free):
        distances.clamp_(max=truncation)
        belongs = F.one_hot(leaf[cells], leaves).mT * counts[cells]
        for index, home in enumerate(homes):
            sums[:, index] += belongs @ displaced(distances, home[cells], labels.reach, truncation)
    return sums.flatten(1), torch.bincount(leaf, counts, minlength=leaves).to(sums)


def distance_blocks(context: MatchContext, readings: int, max_bytes: int) -> Iterator[tuple[slice, Tensor]]:
    """A block of source cells at a time, and ||d - d'|| from each to all target cells: (k, h, w), free to be changed.

    readings: how many numbers the caller reads for each source cell; they count towards ``max_bytes``, too. For unit
    vectors ||d - d'||^2 = 2 - 2 <d, d'>.
    """
    similarity, shape = context.stored_similarity, context.target.grid.shape
    n, m = similarity.shape
    for begin, end in row_blocks(n, m + 2 * readings, max_bytes, similarity.a.device):
        squared = (similarity.rows(begin, end) * -2).add_(2)
        yield slice(begin, end), squared.clamp_(min=0).sqrt_().reshape(-1, *shape)


def displaced(distances: Tensor, start: Tensor, reach: int, outside: float) -> Tensor:
    """Distances (k, h, w) to all cells of a grid, read around ``start`` (k, 2), cells x, y, which may be off the grid.

    Returns (k, (2 reach + 1)^2), row-major in the displacement from start; ``outside`` for what is off the grid.
    """
    height, width = distances.shape[1:]
    framed = F.pad(distances, (1, 1, 1, 1), value=outside).flatten(1)
    steps = torch.arange(-reach, reach + 1, device=distances.device)
    x = (start[:, :1] + steps).clamp(-1, width) + 1
    y = (start[:, 1:] + steps).clamp(-1, height) + 1
    return framed.gather(1, (y[:, :, None] * (width + 2) + x[:, None, :]).flatten(1))


def home_cells(source: Grid, target: Grid, scale: Tensor) -> Tensor:
    """Where source cells lie on the target's grid if it shows the same picture, ``scale`` (N,) or () times larger.

    Returns (N, 2) float32, cells x, y.
    """
    cells = source.cells(scale.device)
    axes = []
    for position, ours, theirs in (
        (cells[:, 0], source.width, target.width),
        (cells[:, 1], source.height, target.height),
    ):
        middle = rescale_position(0.0, 1, theirs)  # of the axis, in cells
        axes.append(middle + scale * (rescale_position(position, ours, theirs) - middle))
    return torch.stack(axes, dim=1)


def leaf_of_cells(grid: Grid, levels: int, device: torch.device) -> Tensor:
    """Which of the smallest nodes each cell belongs to: (N,) int64."""
    per_side = 1 << (levels - 1)
    y, x = (((2 * torch.arange(n, device=device) + 1) * per_side) // (2 * n) for n in grid.shape)
    return (y[:, None] * per_side + x).flatten()


def nearest_cells(cells: Tensor) -> Tensor:
    """The nearest cells, int64; half-way between two cells, up to rounding errors, the lower one."""
    return (cells - 0.501).ceil().long()


def _sums_of_quarters(values: Tensor) -> Tensor:
    """A level's nodes (4^l, K) in row-major order to the sums of each parent's four children: (4^(l - 1), K)."""
    per_side = math.isqrt(len(values)) // 2
    return values.reshape(per_side, 2, per_side, 2, -1).sum(dim=(1, 3)).flatten(0, 1)
