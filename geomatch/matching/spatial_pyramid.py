"""prototype"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.errors import InputError, OutOfMemoryError
from geomatch.geometry import read_cells, rescale_position
from geomatch.matching.base import Method, Placement
from geomatch.matching.belief_propagation import Smoothness, find_labels
from geomatch.matching.search import row_blocks

FARTHEST = 2.0


@dataclass(frozen=True)
class SpatialPyramid(Method):
    levels: int = 3
    reach: float = 0.5
    scales: str = "1"
    truncation: float = 0.98
    smoothness: float = 0.005
    smoothness_truncation: float = 0.25
    scale_smoothness: float = 0.05
    iterations: int = 50
    pixel_reach: int = 2
    pixel_weight: float = 0.05
    temperature: float = 0.05
    window: int = 1
    blend: int = 0

    def __call__(self, source: FeatureMap, target: FeatureMap, max_bytes: int) -> tuple[Placement, Placement]:
        return self.place(source, target, max_bytes), self.place(target, source, max_bytes)

    def place(self, source, target, max_bytes):
        steps = self.steps(source, target)
        scales = [float(t) for t in self.scales.split(",")]
        homes = home_cells(source, target, scales)
        costs = self.node_costs(source, target, homes, steps, max_bytes)
        smooth = Smoothness(self.smoothness, self.smoothness_truncation)
        labels = find_labels(costs, self.levels, [Smoothness(self.scale_smoothness, 1.0), smooth, smooth], self.iterations)
        n = 1 << (self.levels - 1)
        leaves = labels[-n * n:]
        leaf = leaf_of_cells(source, self.levels)
        side = 2 * steps + 1
        scale = leaves // side**2
        move = torch.stack((leaves % side - steps, leaves // side % side - steps), 1)
        if self.blend:
            sc = torch.tensor(scales)[scale]
            lm = torch.cat((move.float(), sc[:, None]), 1).mT.reshape(1, 3, n, n)
            h, w = source.grid.shape
            cells = source.grid.cells()
            at = torch.stack(((cells[:, 0] + .5) * n / w - .5, (cells[:, 1] + .5) * n / h - .5), 1)
            r = read_cells(lm, at[None])[0].mT
            start = (home_positions(source, target, r[:, 2:]) + r[:, :2] - 0.501).ceil().long()
        else:
            start = homes[scale[leaf], torch.arange(len(leaf))] + move[leaf]
        return Placement(source.grid, target.grid.to_pixels(self.refine(source, target, start, max_bytes)))

    def steps(self, source, target):
        return round(self.reach * max(*source.grid.shape, *target.grid.shape))

    def node_costs(self, source, target, homes, steps, max_bytes):
        leaf = leaf_of_cells(source, self.levels)
        n = 1 << (self.levels - 1)
        side = 2 * steps + 1
        members = F.one_hot(leaf, n * n).mT.float()
        sums = torch.zeros(n * n, len(homes), side * side)
        for begin, end, distances in distance_blocks(source, target, max_bytes):
            distances = distances.clamp_(max=self.truncation)
            for k, home in enumerate(homes):
                sums[:, k] += members[:, begin:end] @ displaced(distances, home[begin:end], steps, self.truncation).flatten(1)
        sums = sums.flatten(1)
        counts = members.sum(1)
        levels = []
        for level in range(self.levels)[::-1]:
            mean = sums / counts.clamp(min=1)[:, None]
            levels.append(mean / (mean.sum() / (counts > 0).sum() / mean.shape[1]).clamp(min=1e-12))
            if level:
                m = 1 << level
                sums = sums.reshape(m // 2, 2, m // 2, 2, -1).sum((1, 3)).flatten(0, 1)
                counts = counts.reshape(m // 2, 2, m // 2, 2).sum((1, 3)).flatten()
        return torch.cat(levels[::-1]).reshape(-1, len(homes), side, side)

    def refine(self, source, target, start, max_bytes):
        r = self.pixel_reach
        reach = torch.arange(-r, r + 1)
        toll = self.pixel_weight * (reach.abs()[:, None] + reach.abs())
        out = torch.empty(len(start), 2)
        side = 2 * r + 1
        for begin, end, distances in distance_blocks(source, target, max_bytes):
            costs = (displaced(distances, start[begin:end], r, FARTHEST) + toll)
            if self.window:
                best = costs.flatten(1).argmin(1)
                by, bx = best // side - r, best % side - r
                near = ((reach - by[:, None]).abs() <= self.window)[:, :, None] & ((reach - bx[:, None]).abs() <= self.window)[:, None]
                costs = costs.masked_fill(~near, torch.inf)
            w = torch.softmax(-costs.flatten(1) / self.temperature, 1).reshape(costs.shape)
            out[begin:end, 0] = start[begin:end, 0] + (w.sum(1) @ reach.float())
            out[begin:end, 1] = start[begin:end, 1] + (w.sum(2) @ reach.float())
        return out


def leaf_of_cells(f, levels):
    h, w = f.grid.shape
    n = 1 << (levels - 1)
    y = (2 * torch.arange(h) + 1) * n // (2 * h)
    x = (2 * torch.arange(w) + 1) * n // (2 * w)
    return (y[:, None] * n + x).flatten()


def home_positions(source, target, scale):
    pixels = source.grid.centres()
    res = []
    for axis in (0, 1):
        L, M = source.image_size[1 - axis], target.image_size[1 - axis]
        p = rescale_position(pixels[:, axis], L, M)
        c = (M - 1) / 2
        res.append(c + (p - c) * (scale[:, 0] if isinstance(scale, Tensor) else scale))
    return target.grid.to_cells(torch.stack(res, 1))


def home_cells(source, target, scales):
    return torch.stack([(home_positions(source, target, s) - 0.501).ceil().long() for s in scales])


def distance_blocks(source, target, max_bytes):
    a, b = source.descriptors.flatten(1), target.descriptors.flatten(1)
    for begin, end in row_blocks(a.shape[1], b.shape[1] * 2, max_bytes):
        d = (a[:, begin:end].mT @ b).mul_(-2).add_(2).clamp_(min=0).sqrt_()
        yield begin, end, d.reshape(-1, *target.grid.shape)


def displaced(distances, start, reach, outside):
    k, h, w = distances.shape
    framed = F.pad(distances, (1, 1, 1, 1), value=outside).flatten(1)
    steps = torch.arange(-reach, reach + 1)
    x = (start[:, :1] + steps).clamp(-1, w) + 1
    y = (start[:, 1:] + steps).clamp(-1, h) + 1
    return framed.gather(1, (y[:, :, None] * (w + 2) + x[:, None, :]).flatten(1)).reshape(k, len(steps), len(steps))
