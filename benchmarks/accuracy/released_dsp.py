"""PCK of the Deformable Spatial Pyramid as its authors released it, step by step, on PF-WILLOW or PF-PASCAL.

    python benchmarks/accuracy/released_dsp.py --root PF-dataset [--dataset pf-willow] [--pairs 50] [--components 20]

A second, separate implementation of Kim et al. (CVPR 2013), after the code of `DSPMatch.m`: VLFeat's dense SIFT with a
flat window at every pixel of the grey image as it is, displacements counted from a pixel's own position, node costs by
integral images, messages without those to parents, all pixels of a leaf starting with its displacement, and two
searches of single pixels. Only keypoints are searched, at the nearest pixel, as Proposal Flow's evaluation reads them.
The table has a row for each change towards geomatch's matcher `dsp`: messages to parents, exact node costs, pixels
that start at the same relative position (the target is resized to the source's size).

--components N: reduce SIFT to N principal components, of each pair's own pixels.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from geomatch.datasets.load import load_dataset
from geomatch.datasets.pairs import AnnotatedPair, PairImage
from geomatch.evaluation.metrics.pck import keypoint_extent
from geomatch.matching.spatial_pyramid.belief_propagation import Messages, Smoothness, find_labels

BIN, ORIENTATIONS, MARGIN = 4, 8, 6
LEVELS, TRUNCATION = 3, 500.0
ALPHAS = (0.05, 0.1, 0.15)

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Rules:
    """How a variant differs from the release. mean_of_all: node costs are true means; relative: see the module."""

    name: str
    messages: Messages = Messages.down
    mean_of_all: bool = False
    relative: bool = False


VARIANTS = (
    Rules("as released"),
    Rules("messages to parents", Messages.both),
    Rules("exact node costs", mean_of_all=True),
    Rules("relative positions", relative=True),
    Rules("all three", Messages.both, mean_of_all=True, relative=True),
)


def dense_sift(grey: Tensor) -> Tensor:
    """Descriptors (128, H - 12, W - 12) of length 512 of a grey image (H, W), 0 to 255, as `vl_dsift(..., 'fast')`.

    Cell (y, x) is centred on pixel (y + 6, x + 6).
    """
    padded = F.pad(grey[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    across, down = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2, (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
    across[:, [0, -1]] *= 2  # one-sided at the border
    down[[0, -1]] *= 2
    turn = torch.atan2(down, across).remainder(2 * torch.pi) * (ORIENTATIONS / (2 * torch.pi))
    first, weight = turn.floor(), turn - turn.floor()
    length = torch.hypot(across, down)
    maps = torch.zeros(ORIENTATIONS, *grey.shape)
    for index, share in ((first, 1 - weight), (first + 1, weight)):
        maps.scatter_add_(0, index.long().remainder(ORIENTATIONS)[None], (length * share)[None])
    triangle = 1 - torch.arange(1 - BIN, BIN).abs() / BIN
    maps = F.pad(maps[:, None], (BIN - 1,) * 4, mode="replicate")
    maps = F.conv2d(F.conv2d(maps, triangle.reshape(1, 1, 1, -1)), triangle.reshape(1, 1, -1, 1))[:, 0]
    offsets = torch.arange(1 - BIN, BIN) - BIN * (torch.arange(4.0)[:, None] - 1.5)
    window = torch.exp(-0.5 * (offsets / (2 * BIN)) ** 2).mean(dim=1)
    height, width = grey.shape[0] - 2 * MARGIN, grey.shape[1] - 2 * MARGIN
    cells = [
        window[row] * window[column] * maps[:, BIN * row :, BIN * column :][:, :height, :width]
        for row in range(4)
        for column in range(4)
    ]
    unit = F.normalize(torch.cat(cells), dim=0).clamp_(max=0.2)
    return 512 * F.normalize(unit, dim=0)


def cost_volume(first: Tensor, second: Tensor, step: int, reach: tuple[int, int]) -> Tensor:
    """min(||d - d'||, 500) of every ``step``-th pixel and every displacement: (h, w, 2 ry + 1, 2 rx + 1).

    reach: (ry, rx), in steps. 500 for displacements that leave the target.
    """
    source, target = first[:, ::step, ::step], second[:, ::step, ::step]
    (height, width), (rows, columns) = source.shape[1:], target.shape[1:]
    distances = torch.cdist(source.flatten(1).mT[None], target.flatten(1).mT[None])[0].clamp_(max=TRUNCATION)
    reach_y, reach_x = reach
    framed = F.pad(
        distances.reshape(height, width, rows, columns), (reach_x, reach_x, reach_y, reach_y), value=TRUNCATION
    )
    framed = F.pad(framed, (0, max(0, width - columns), 0, max(0, height - rows)), value=TRUNCATION)
    tall, wide = 2 * reach_y + 1, 2 * reach_x + 1
    rows_of_pixels = (
        torch.stack([framed[y, x, y : y + tall, x : x + wide] for x in range(width)]) for y in range(height)
    )
    return torch.stack(list(rows_of_pixels))


def node_costs(volume: Tensor, rules: Rules) -> Tensor:
    """D (21, 2 ry + 1, 2 rx + 1) of all nodes, from a `cost_volume`; each level is divided by its mean."""
    height, width = volume.shape[:2]
    costs = []
    for level in range(LEVELS):
        side = 1 << level
        tall, wide = height // side, width // side
        nodes = []
        for row in range(side):
            for column in range(side):
                top, left = row * tall, column * wide
                skipped = 0 if rules.mean_of_all else 1  # the integral image leaves out the first row and column
                cells = volume[top + skipped : top + tall, left + skipped : left + wide]
                nodes.append(cells.sum(dim=(0, 1)) / (tall * wide))
        stacked = torch.stack(nodes)
        costs.append(stacked / stacked.mean())
    return torch.cat(costs)


def match_points(first: Tensor, second: Tensor, points: Tensor, variants: Sequence[Rules]) -> list[Tensor]:
    """For each variant the displacements (K, 2), x then y, of pixels (K, 2) int64 of one map to those of another."""
    (height, width), (rows, columns) = first.shape[1:], second.shape[1:]
    step = int((height * width / 2500) ** 0.5 + 0.5)
    reach = -(-max(height, rows) // 2) // step, -(-max(width, columns) // 2) // step
    volume = cost_volume(first, second, step, reach)
    side, per_row = 1 << (LEVELS - 1), 2 * reach[1] + 1
    leaf = []
    for axis, length in enumerate((width, height)):
        edges = torch.linspace(1, length, side + 1).floor()
        leaf.append((torch.searchsorted(edges, points[:, axis].float() + 1, right=True) - 1).clamp(max=side - 1))
    found = []
    for rules in variants:
        costs = node_costs(volume, rules)
        labels = find_labels(costs, LEVELS, (Smoothness(0.005, 0.25),) * 2, 50, rules.messages)[-side * side :]
        moves = torch.stack((labels % per_row - reach[1], labels // per_row - reach[0]), dim=1) * step
        moves = moves[leaf[1] * side + leaf[0]]
        for radius, spacing in ((20, 4), (4, 1)):
            moves = search_around(first, second, points, moves, radius, spacing)
        found.append(moves)
    return found


def search_around(first: Tensor, second: Tensor, points: Tensor, moves: Tensor, radius: int, spacing: int) -> Tensor:
    """The best of the displacements within ``radius`` of ``moves``, at 2.5 for each pixel of either axis."""
    along = torch.arange(-radius, radius + 1, spacing)
    offsets = torch.cartesian_prod(along, along)
    places = points[:, None] + moves[:, None] + offsets
    limits = torch.tensor([second.shape[2], second.shape[1]])
    inside = ((places >= 0) & (places < limits)).all(dim=2)
    x, y = places.clamp(min=torch.zeros(2, dtype=torch.int64), max=limits - 1).unbind(dim=2)
    source = first[:, points[:, 1], points[:, 0]]
    distances = torch.where(inside, (second[:, y, x] - source[:, :, None]).norm(dim=0), TRUNCATION)
    return moves + offsets[(distances + 2.5 * offsets.abs().sum(dim=1)).argmin(dim=1)]


def grey_of(image: PairImage) -> Tensor:
    """(H, W) float32, 0 to 255, by the weights of MATLAB's rgb2gray."""
    return torch.einsum("chw,c->hw", image.load().float(), torch.tensor([0.2989, 0.5870, 0.1140])).round()


def errors_of(pair: AnnotatedPair, relative: bool, components: int) -> list[Values]:
    """For each variant the distances (K,) of predicted from true keypoints, in pixels of the target.

    relative: only the variants with relative positions, else only the others.
    """
    source, target = grey_of(pair.source), grey_of(pair.target)
    own = target.shape
    if relative:
        target = F.interpolate(target[None, None], source.shape, mode="bilinear", antialias=True)[0, 0]
    first, second = dense_sift(source), dense_sift(target)
    if components:
        basis = torch.linalg.svd(torch.cat((first.flatten(1), second.flatten(1)), dim=1)[:, ::97])[0][:, :components]
        first, second = (torch.einsum("cyx,ck->kyx", each, basis) for each in (first, second))
    points = torch.from_numpy(pair.source_points)
    limits = torch.tensor([first.shape[2], first.shape[1]]) - 1
    at = (points.round().long() - MARGIN).clamp(min=torch.zeros(2, dtype=torch.int64), max=limits)
    ratio = torch.tensor([own[1] / target.shape[1], own[0] / target.shape[0]], dtype=torch.float64)
    variants = [rules for rules in VARIANTS if rules.relative is relative]
    placed = ((points + moves + 0.5) * ratio - 0.5 for moves in match_points(first, second, at, variants))
    return [np.linalg.norm(each.numpy() - pair.target_points, axis=1) for each in placed]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, metavar="DIR")
    parser.add_argument("--dataset", default="pf-willow", choices=("pf-willow", "pf-pascal"))
    parser.add_argument("--pairs", type=int, default=900)
    parser.add_argument("--components", type=int, default=0)
    options = parser.parse_args()

    torch.set_num_threads(1)
    pairs = load_dataset(options.dataset, options.root).limited(options.pairs).pairs
    scores: dict[Rules, list[list[float]]] = {rules: [] for rules in VARIANTS}
    for number, pair in enumerate(pairs, 1):
        extent = keypoint_extent(pair.in_target)
        for relative in (False, True):
            variants = [rules for rules in VARIANTS if rules.relative is relative]
            for rules, errors in zip(variants, errors_of(pair, relative, options.components), strict=True):
                scores[rules].append([float((errors < alpha * extent).mean()) for alpha in ALPHAS])
        if number % 10 == 0:
            Console(stderr=True).print(number, *(f"{np.mean(each, axis=0)[1]:.3f}" for each in scores.values()))
    classes = np.array([pair.category for pair in pairs])
    table = Table("variant", *(f"PCK@{alpha:.2f}" for alpha in ALPHAS))
    for rules, values in scores.items():
        means = np.mean([np.mean(np.array(values)[classes == each], axis=0) for each in np.unique(classes)], axis=0)
        table.add_row(rules.name, *(f"{mean:.3f}" for mean in means))
    Console().print(table)


if __name__ == "__main__":
    main()
