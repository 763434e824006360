"""Deformable Spatial Pyramid matching: ever smaller parts of an image move as wholes, and pull at one another.

After J. Kim, C. Liu, F. Sha and K. Grauman, *Deformable Spatial Pyramid Matching for Fast Dense Correspondences*
(CVPR 2013). Nodes are the whole image, its quarters, their quarters and so on. Each takes a displacement under which
its cells look like the target's, and which differs little from those of its parent, its children and its neighbours;
then each cell looks for its partner about where the smallest nodes around it go. The differences from the paper:

- Nodes consist of cells of the features' grid, and descriptors have unit length; so the constants are others.
- The paper moves pixels within one frame. Here a cell starts from where it would lie if the target were the same
  picture, that is, from the same place relative to both grids, and is displaced from there by whole cells of the
  target.
- Children speak to their parents, too. In the authors' released code a shadowed variable keeps them silent.
- Displacements are interpolated between the centres of the smallest nodes, so that the flow has no edges at their
  borders.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.errors import InputError, OutOfMemoryError
from geomatch.geometry.grid import Grid, read_cells, rescale_position
from geomatch.matching.base import REFINEMENT_LIMITS, Limits, Matcher, TargetPoints
from geomatch.matching.context import MatchContext
from geomatch.matching.similarity import Partners, Similarity, place, row_blocks
from geomatch.matching.spatial_pyramid.belief_propagation import Smoothness, count_messages, count_nodes, find_labels


@dataclass(frozen=True)
class SpatialPyramid(Matcher):
    """The pyramid, and then the cells. In brackets the paper's values, for SIFT on pixels, brought to unit length and
    cells; the defaults were chosen on validation pairs of SPair-71k and animal-parts, introspection features.

    levels: of the pyramid, the whole image being the first [3].
    reach: how far a node may move along either axis, as a share of the larger grid's longer side [.5].
    scales: how many times larger things may be in the target, numbers separated by commas
        ["0.5,0.75,1,1.5,2", but 1 alone in the released code]; images are scaled about their middle.
    truncation: the largest distance of two descriptors that a node's cost counts, and what falls outside the target
        counts as [500 of 512, .98]. Unrelated cells are at sqrt(2) for learnt features, so that less would blind them.
    smoothness: what a difference of one cell between the displacements of joined nodes costs, either axis for itself,
        where a node's mean cost is 1 [.005]. Costs of learnt features vary less about 1 than those of SIFT.
    smoothness_truncation: what it costs at most [.25].
    scale_smoothness: what the next scale costs [open].
    iterations: of message passing, at most [50]. More change labels, but no score.
    cell_reach: how far, in cells along either axis, a cell's partner may be from where the nodes around send it
        [20 pixels, about 2 cells].
    cell_weight: what each of these cells costs, in units of distance [2.5 of 512 a pixel, about .05].
    window, temperature: of the refinement below a cell, as for nearest neighbours; it stands for the paper's second,
        finer search.
    """

    limits: ClassVar[Limits] = {
        "levels": (1, 6),
        "reach": (0, 1),
        "truncation": (0, 1e3),
        "smoothness": (0, 1e3),
        "smoothness_truncation": (0, 1e3),
        "scale_smoothness": (0, 1e3),
        "iterations": (0, 1000),
        "cell_reach": (0, 100),
        "cell_weight": (0, 1e3),
        **REFINEMENT_LIMITS,
    }

    levels: int = 4
    reach: float = 0.5
    scales: str = "1"
    truncation: float = 1.25
    smoothness: float = 0.001
    smoothness_truncation: float = 0.05
    scale_smoothness: float = 0.002
    iterations: int = 3
    cell_reach: int = 10
    cell_weight: float = 0.02
    window: int = 1
    temperature: float = 0.05

    def __post_init__(self) -> None:
        """Raises InputError for a pyramid that cannot be built."""
        super().__post_init__()
        self.scale_labels()

    def __call__(self, context: MatchContext) -> tuple[TargetPoints, TargetPoints]:
        source, target, max_bytes = context.source, context.target, context.max_bytes
        similarity, reverse = context.stored_similarity, context.reversed.stored_similarity
        partners = Partners(
            self.partners(source, target, similarity, max_bytes),
            self.partners(target, source, reverse, max_bytes),
        )
        return place(source, target, partners, self.window, self.temperature, max_bytes)

    def partners(self, source: FeatureMap, target: FeatureMap, similarity: Similarity, max_bytes: int) -> Tensor:
        """The target cell of each source cell: (N,) int64, in row-major order. Raises OutOfMemoryError."""
        labels = Labels(self.scale_labels(), round(self.reach * max(*source.grid.shape, *target.grid.shape)))
        _check_memory(self.levels, labels, max_bytes)
        costs = node_costs(source.grid, target.grid, similarity, labels, self.levels, self.truncation, max_bytes)
        along = Smoothness(self.smoothness, self.smoothness_truncation)
        smoothness = (Smoothness(self.scale_smoothness, math.inf), along, along)
        found = find_labels(costs, self.levels, smoothness, self.iterations)
        leaves = labels.read(found[-(4 ** (self.levels - 1)) :])
        start = _whole_cells(destinations(source.grid, target.grid, leaves, self.levels))
        return nearby_partners(target.grid, similarity, start, self.cell_reach, self.cell_weight, max_bytes)

    def scale_labels(self) -> tuple[float, ...]:
        """Raises InputError where they are no positive numbers."""
        try:
            scales = tuple(float(text) for text in self.scales.split(","))
        except ValueError:
            scales = (0.0,)
        if not all(0 < scale < math.inf for scale in scales):
            raise InputError(
                f"parameter scales of matcher dsp: write '{self.scales}' as positive numbers, such as 0.5,1,2"
            )
        return scales


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


def node_costs(
    source: Grid,
    target: Grid,
    similarity: Similarity,
    labels: Labels,
    levels: int,
    truncation: float,
    max_bytes: int,
) -> Tensor:
    """D (nodes, *labels.shape) float32: what each label costs each node of the source's pyramid.

    source, target: the grids whose cells ``similarity`` compares.

    D is the mean over the node's cells q of min(||d(q) - d'(q')||, truncation), q' being where the label sends q, and
    truncation if that is off the target's grid; divided by the mean of these over labels and nodes of the same level.
    Nodes without cells, on grids narrower than their level, cost nothing. Nodes as `belief_propagation` numbers them.
    """
    device, per_side = similarity.a.device, 1 << (levels - 1)
    count = math.prod(labels.shape)
    leaf = leaf_of_cells(source, levels, device)
    scales = torch.tensor(labels.scales, device=device)
    homes = [_whole_cells(home_cells(source, target, scale)) for scale in scales]
    sums = torch.zeros(per_side**2, len(homes), count // len(homes), device=device)
    free = max_bytes - 4 * count * count_nodes(levels)
    for cells, distances in _distance_blocks(similarity, target, count // len(homes) + per_side**2, free):
        distances.clamp_(max=truncation)
        belongs = F.one_hot(leaf[cells], per_side**2).mT.to(distances)
        for index, home in enumerate(homes):
            sums[:, index] += belongs @ displaced(distances, home[cells], labels.reach, truncation)
    sums, sizes = sums.flatten(1), torch.bincount(leaf, minlength=per_side**2).to(sums)
    costs = []
    for level in reversed(range(levels)):
        mean = sums / sizes.clamp(min=1)[:, None]
        usual = mean.sum() / ((sizes > 0).sum() * count)
        costs.append(mean / usual.clamp(min=torch.finfo(mean.dtype).tiny))
        if level > 0:
            sums, sizes = _sums_of_quarters(sums), _sums_of_quarters(sizes[:, None])[:, 0]
    return torch.cat(costs[::-1]).reshape(-1, *labels.shape)


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


def nearby_partners(
    target: Grid, similarity: Similarity, start: Tensor, reach: int, weight: float, max_bytes: int
) -> Tensor:
    """The layer of single cells: the target cell within ``reach`` of ``start`` along both axes with the smallest

        ||d(q) - d'(q')|| + weight (|ox| + |oy|),    (ox, oy) = q' - start(q) in cells.

    target: the grid of the second image's cells. start: (N, 2) int64, x then y; from outside that grid it is moved to
    the cell nearest to it.
    Returns (N,) int64, cells in row-major order.
    """
    height, width = target.shape
    first = start[:, 1].clamp(0, height - 1) * width + start[:, 0].clamp(0, width - 1)
    steps = torch.arange(-reach, reach + 1, device=start.device).abs()
    toll = weight * (steps[:, None] + steps).flatten()
    partners = torch.empty_like(first)
    for cells, distances in _distance_blocks(similarity, target, len(toll), max_bytes):
        near, on_grid = target.window(first[cells], reach)
        costs = (distances.flatten(1).gather(1, near) + toll).masked_fill_(~on_grid, math.inf)
        partners[cells] = near.gather(1, costs.argmin(dim=1, keepdim=True))[:, 0]
    return partners


def destinations(source: Grid, target: Grid, leaves: Tensor, levels: int) -> Tensor:
    """Where source cells lie on the target's grid if they move as the leaves around them: (N, 2) float32, cells x, y.

    leaves: (4^(levels - 1), 3), scale and displacement of the smallest nodes, as `Labels.read` gives them;
    between their centres they are interpolated bilinearly.
    """
    per_side = 1 << (levels - 1)
    centres = Grid.over(source.shape, per_side, per_side)  # the grid's cells being the pixels
    maps = leaves.mT.reshape(1, 3, per_side, per_side)
    found = read_cells(maps, centres.to_cells(source.cells(leaves.device))[None])[0]
    return home_cells(source, target, found[0]) + found[1:].mT


def home_cells(source: Grid, target: Grid, scale: Tensor) -> Tensor:
    """Where source cells lie on the target's grid if both images show the same, but ``scale`` (N,) or () times larger.

    Returns (N, 2) float32, cells x, y.
    """
    cells = source.cells(scale.device)
    axes = []
    for position, ours, theirs in (
        (cells[:, 0], source.width, target.width),
        (cells[:, 1], source.height, target.height),
    ):
        middle = rescale_position(0.0, 1, theirs)  # that of the only cell, were there one
        axes.append(middle + scale * (rescale_position(position, ours, theirs) - middle))
    return torch.stack(axes, dim=1)


def leaf_of_cells(grid: Grid, levels: int, device: torch.device) -> Tensor:
    """Which of the smallest nodes each cell belongs to: (N,) int64."""
    per_side = 1 << (levels - 1)
    y, x = (((2 * torch.arange(n, device=device) + 1) * per_side) // (2 * n) for n in grid.shape)
    return (y[:, None] * per_side + x).flatten()


def _distance_blocks(
    similarity: Similarity, target: Grid, readings: int, max_bytes: int
) -> Iterator[tuple[slice, Tensor]]:
    """A few source cells at a time, and ||d - d'|| from each to all target cells: (k, h, w), free to be changed.

    readings: how many numbers will be read around each. For unit vectors ||d - d'||^2 = 2 - 2 <d, d'>.
    """
    n, m = similarity.shape
    for begin, end in row_blocks(n, m + 2 * readings, max_bytes):
        squared = (similarity.rows(begin, end) * -2).add_(2)
        yield slice(begin, end), squared.clamp_(min=0).sqrt_().reshape(-1, *target.shape)


def _sums_of_quarters(values: Tensor) -> Tensor:
    """A level's nodes (4^l, K) in row-major order to the sums of each parent's four children: (4^(l - 1), K)."""
    per_side = math.isqrt(len(values)) // 2
    return values.reshape(per_side, 2, per_side, 2, -1).sum(dim=(1, 3)).flatten(0, 1)


def _whole_cells(cells: Tensor) -> Tensor:
    """The nearest whole cells, int64; from half-way between two, but for rounding errors, the lower one."""
    return (cells - 0.501).ceil().long()


def _check_memory(levels: int, labels: Labels, max_bytes: int) -> None:
    # Besides messages there are costs, beliefs, and what is at hand while the largest round is sent.
    count = math.prod(labels.shape)
    maps = count_messages(levels) + 2 * count_nodes(levels) + 10 * 4 ** (levels - 1)
    if 4 * count * maps > max_bytes:
        raise OutOfMemoryError(
            f"passing messages about {count} displacements between {count_nodes(levels)} nodes does not fit into "
            f"{max_bytes} bytes: raise --max-memory or choose a faster --preset"
        )
