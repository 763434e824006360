"""Deformable Spatial Pyramid matching: parts of an image, from the whole to small ones, are displaced together.

After J. Kim, C. Liu, F. Sha and K. Grauman, *Deformable Spatial Pyramid Matching for Fast Dense Correspondences*
(CVPR 2013). Nodes are the whole image, its quarters, their quarters and so on. Each node takes a displacement under
which its cells look like the target's, and which differs little from those of its parent, its children and its
neighbours. Then each cell searches its partner near where the smallest nodes around it send it. We depart from the
paper as follows:

- Nodes consist of cells of the features' grid, and descriptors have unit length; so the constants are different.
- The paper moves pixels within one frame. Here a cell starts at the same place relative to both grids, and is displaced
  from there by whole cells of the target.
- Children send messages to their parents, too. In the authors' released code a shadowed variable prevents that;
  ``messages=down`` does so here.
- Displacements are interpolated between the centres of the smallest nodes, so that the flow has no edges at their
  borders.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from geomatch.errors import InputError, OutOfMemoryError
from geomatch.geometry.grid import Grid, read_cells
from geomatch.matching.base import REFINEMENT_LIMITS, Limits, MatchContext, Matcher, TargetPoints
from geomatch.matching.refinement.sub_cell import refined_target_points
from geomatch.matching.similarity import Partners
from geomatch.matching.spatial_pyramid.belief_propagation import (
    Messages,
    Smoothness,
    count_messages,
    count_nodes,
    find_labels,
)
from geomatch.matching.spatial_pyramid.node_costs import Labels, distance_blocks, home_cells, nearest_cells, node_costs


@dataclass(frozen=True)
class SpatialPyramid(Matcher):
    """Match the nodes of a pyramid, then the cells.

    In brackets the paper's values, for SIFT on pixels, converted to unit length and cells. The defaults were chosen on
    validation pairs of SPair-71k and animal-parts, introspection features.

    levels: of the pyramid; the first is the whole image [3].
    reach: how far a node may move along either axis, as a share of the larger grid's longer side [.5].
    scales: how many times larger the object may be in the target, numbers separated by commas
        ["0.5,0.75,1,1.5,2", but 1 alone in the released code]; images are scaled about their middle.
    truncation: the largest distance of two descriptors in a node's cost; also the distance for cells outside the target
        [500 of 512, .98]. Unrelated cells of learnt features are at sqrt(2): a smaller value would not separate them.
    smoothness: penalty for a difference of one cell between the displacements of joined nodes, along either axis
        separately, where a node's mean cost is 1 [.005]. Costs of learnt features vary less about 1 than those of SIFT.
    smoothness_truncation: the largest such penalty [.25].
    scale_smoothness: penalty for one step in ``scales`` [not stated].
    iterations: of message passing, at most [50]. More iterations change labels, but no score.
    messages: ``both`` if children send messages to their parents, too; ``down`` if they do not [down in the released
        code].
    cell_reach: how far a cell's partner may be, in cells along either axis, from where the nodes around send it
        [20 pixels, about 2 cells].
    cell_weight: penalty for each of these cells, in units of distance [2.5 of 512 a pixel, about .05].
    window, temperature: of the refinement to sub-cell, as for nearest neighbours; it replaces the paper's second, finer
        search.
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
    messages: Messages = Messages.both
    cell_reach: int = 10
    cell_weight: float = 0.02
    window: int = 1
    temperature: float = 0.05

    def __post_init__(self) -> None:
        """Raises InputError for a pyramid that cannot be built."""
        super().__post_init__()
        self.scale_labels()

    def __call__(self, context: MatchContext) -> tuple[TargetPoints, TargetPoints]:
        partners = Partners(self.partners(context), self.partners(context.reversed))
        return refined_target_points(context, partners, self.window, self.temperature)

    def partners(self, context: MatchContext) -> Tensor:
        """The target cell of each source cell: (N,) int64, in row-major order. Raises OutOfMemoryError."""
        source, target = context.source.grid, context.target.grid
        labels = Labels(self.scale_labels(), round(self.reach * max(*source.shape, *target.shape)))
        _check_memory(self.levels, labels, context.max_bytes)
        costs = node_costs(context, labels, self.levels, self.truncation)
        per_axis = Smoothness(self.smoothness, self.smoothness_truncation)
        smoothness = (Smoothness(self.scale_smoothness, math.inf), per_axis, per_axis)
        found = find_labels(costs, self.levels, smoothness, self.iterations, self.messages)
        leaves = labels.read(found[-(4 ** (self.levels - 1)) :])
        start = nearest_cells(destinations(source, target, leaves, self.levels))
        return nearby_partners(context, start, self.cell_reach, self.cell_weight)

    def scale_labels(self) -> tuple[float, ...]:
        """The numbers in ``scales``. Raises InputError if one is not a positive number."""
        try:
            scales = tuple(float(text) for text in self.scales.split(","))
        except ValueError:
            scales = (0.0,)
        if not all(0 < scale < math.inf for scale in scales):
            raise InputError(
                f"parameter scales of matcher dsp: write '{self.scales}' as positive numbers, such as 0.5,1,2"
            )
        return scales


def nearby_partners(context: MatchContext, start: Tensor, reach: int, weight: float) -> Tensor:
    """The layer of single cells: the target cell within ``reach`` of ``start`` along both axes with the smallest

        ||d(q) - d'(q')|| + weight (|ox| + |oy|),    (ox, oy) = q' - start(q) in cells.

    start: (N, 2) int64, target cells x, y; if off the grid, the nearest cell on it is used.
    Returns (N,) int64, cells in row-major order.
    """
    grid = context.target.grid
    height, width = grid.shape
    first = start[:, 1].clamp(0, height - 1) * width + start[:, 0].clamp(0, width - 1)
    steps = torch.arange(-reach, reach + 1, device=start.device).abs()
    penalty = weight * (steps[:, None] + steps).flatten()
    partners = torch.empty_like(first)
    for cells, distances in distance_blocks(context, len(penalty), context.max_bytes):
        near, on_grid = grid.window(first[cells], reach)
        costs = (distances.flatten(1).gather(1, near) + penalty).masked_fill_(~on_grid, math.inf)
        partners[cells] = near.gather(1, costs.argmin(dim=1, keepdim=True))[:, 0]
    return partners


def destinations(source: Grid, target: Grid, leaves: Tensor, levels: int) -> Tensor:
    """Where the leaves around them send source cells on the target's grid: (N, 2) float32, cells x, y.

    leaves: (4^(levels - 1), 3), scale and displacement of the smallest nodes, as `Labels.read` gives them; they are
    interpolated bilinearly between the nodes' centres.
    """
    per_side = 1 << (levels - 1)
    centres = Grid.over(source.shape, per_side, per_side)  # the grid's cells being the pixels
    maps = leaves.mT.reshape(1, 3, per_side, per_side)
    found = read_cells(maps, centres.to_cells(source.cells(leaves.device))[None])[0]
    return home_cells(source, target, found[0]) + found[1:].mT


def _check_memory(levels: int, labels: Labels, max_bytes: int) -> None:
    # Messages, costs and beliefs of all nodes, and the intermediate results of the largest round of messages.
    count = math.prod(labels.shape)
    maps = count_messages(levels) + 2 * count_nodes(levels) + 10 * 4 ** (levels - 1)
    if 4 * count * maps > max_bytes:
        raise OutOfMemoryError(
            f"passing messages about {count} displacements between {count_nodes(levels)} nodes does not fit into "
            f"{max_bytes} bytes: raise --max-memory or choose a faster --preset"
        )
