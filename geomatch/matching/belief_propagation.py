"""Min-sum belief propagation on a pyramid of nodes whose labels fill a box, such as displacements (dy, dx).

It looks for the labels l_i of all nodes that make the energy small:

    E = sum_i D_i(l_i) + sum_(i,j) V(l_i, l_j),    V(l, l') = sum over axes of min(slope |l - l'|, truncation)

The edges (i, j) join every node with its four children and with its neighbours in its level, right, left, below and
above.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Edge = tuple[int, int]


@dataclass(frozen=True)
class Smoothness:
    """What it costs two joined nodes that their labels differ along one axis: min(slope * steps, truncation)."""

    slope: float
    truncation: float


def find_labels(costs: Tensor, levels: int, smoothness: Sequence[Smoothness], iterations: int) -> Tensor:
    """The labels that belief propagation settles on.

    costs: D (nodes, L1, L2, ...) float32, finite, what each label costs each node; nodes in the order of
    `node_number`. smoothness: one for each axis of labels. iterations: after how many to stop, if two in succession
    do not agree on all labels before; with 0 every node has its own cheapest label. Returns (nodes,) int64, labels
    numbered in row-major order. Ties go to the lowest.
    """
    rounds = list(rounds_of_messages(levels))
    edges = [edge for batch in rounds for edge in batch]
    # What node i tells j rests on all that i is told by others than j. The last message is for ever silent: it fills
    # up the rows of nodes with few neighbours.
    senders = torch.tensor([i for i, _ in edges], dtype=torch.int64, device=costs.device)
    arriving: list[list[int]] = [[] for _ in costs]
    for number, (_, j) in enumerate(edges):
        arriving[j].append(number)
    heard_by_node = _padded(arriving, costs.device)
    heard_by_edge = _padded([[k for k in arriving[i] if edges[k][0] != j] for i, j in edges], costs.device)
    messages = costs.new_zeros(len(edges) + 1, *costs.shape[1:])

    labels = costs.flatten(1).argmin(dim=1)
    for _ in range(iterations):
        start = 0
        for batch in rounds:
            now = slice(start, start + len(batch))
            sent = costs[senders[now]] + messages[heard_by_edge[now]].sum(dim=1)
            for axis, each in enumerate(smoothness, start=1):
                sent = smallest_around(sent, axis, each)
            # Only differences count, and what goes round in circles would grow without bound.
            messages[now] = sent - sent.flatten(1).amin(dim=1).reshape(-1, *[1] * len(smoothness))
            start = now.stop
        before, labels = labels, (costs + messages[heard_by_node].sum(dim=1)).flatten(1).argmin(dim=1)
        if torch.equal(before, labels):
            break
    return labels


def smallest_around(costs: Tensor, axis: int, smoothness: Smoothness) -> Tensor:
    """min over l' of costs(l') + min(slope |l - l'|, truncation) for every l along one axis.

    The two passes of Felzenszwalb and Huttenlocher's distance transform, each a running minimum: among the labels up
    to l, costs(l') + slope (l - l') is smallest where costs(l') - slope l' is.
    """
    shape = [1] * costs.ndim
    shape[axis] = -1
    ramp = smoothness.slope * torch.arange(costs.shape[axis], dtype=costs.dtype, device=costs.device).reshape(shape)
    from_below = (costs - ramp).cummin(dim=axis).values + ramp
    from_above = (costs + ramp).flip(axis).cummin(dim=axis).values.flip(axis) - ramp
    anywhere = costs.amin(dim=axis, keepdim=True) + smoothness.truncation
    return from_below.minimum(from_above).minimum(anywhere)


def node_number(level: int, row: int, column: int) -> int:
    """Nodes are numbered level by level from the whole image on, each level's 2^level x 2^level in row-major order."""
    return (4**level - 1) // 3 + (row << level) + column


def rounds_of_messages(levels: int) -> Iterator[list[Edge]]:
    """One iteration's messages (from, to); those of a round do not hear each other, and are sent together.

    Parents to children from the top down; children to parents from the bottom up; forward to the neighbours on the
    right and below, diagonal after diagonal, all levels at once; and backward.
    """
    down = [
        [(node_number(level - 1, y // 2, x // 2), node_number(level, y, x)) for y, x in _places(level)]
        for level in range(1, levels)
    ]
    yield from down
    yield from (_reversed(batch) for batch in reversed(down))
    forward = [
        [
            (node_number(level, y, x), node_number(level, to_y, to_x))
            for level in range(levels)
            for y, x in _places(level)
            for to_y, to_x in ((y, x + 1), (y + 1, x))
            if y + x == diagonal and max(to_y, to_x) < 1 << level
        ]
        for diagonal in range(2 * (1 << levels - 1) - 2)
    ]
    yield from forward
    yield from (_reversed(batch) for batch in reversed(forward))


def _places(level: int) -> list[tuple[int, int]]:
    return [(y, x) for y in range(1 << level) for x in range(1 << level)]


def _reversed(batch: list[Edge]) -> list[Edge]:
    return [(j, i) for i, j in batch]


def _padded(lists: list[list[int]], device: torch.device) -> Tensor:
    """Rows of numbers of one length, filled up with -1."""
    length = max((len(each) for each in lists), default=0)
    rows = [each + [-1] * (length - len(each)) for each in lists]
    return torch.tensor(rows, dtype=torch.int64, device=device).reshape(len(rows), length)
