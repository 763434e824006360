"""Min-sum belief propagation on a pyramid of nodes whose labels fill a box, such as displacements (dy, dx).

It searches labels l_i of all nodes that minimise the energy, approximately:

    E = sum_i D_i(l_i) + sum_(i,j) V(l_i, l_j),    V(l, l') = sum over axes of min(slope |l - l'|, truncation)

The edges (i, j) join every node with its four children and with its neighbours in its level: right, left, below and
above. Nodes are numbered level by level, the whole image first, the 2^level x 2^level of each level in row-major order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor

Edge = tuple[int, int]


@dataclass(frozen=True)
class Smoothness:
    """Penalty for labels of joined nodes that differ along one axis: min(slope * steps, truncation)."""

    slope: float
    truncation: float


class Messages(StrEnum):
    """Which messages levels send each other: both ways, or down alone, from parents to children."""

    both = "both"
    down = "down"


def find_labels(
    costs: Tensor,
    levels: int,
    smoothness: Sequence[Smoothness],
    iterations: int,
    between_levels: Messages = Messages.both,
) -> Tensor:
    """The labels (nodes,) int64 that belief propagation finds, numbered in row-major order. Ties go to the lowest.

    In each iteration every node i sends every joined node j, in the order of `rounds_of_messages`, the message

        m_ij(l) = min over l' of D_i(l') + V(l, l') + sum over k != j of m_ki(l'),    less its minimum over l,

    and then takes the label for which D_i(l) + sum over k of m_ki(l) is smallest.

    Args:
        costs: D (nodes, L1, L2, ...) float32, finite: what each label costs each node.
        smoothness: one for each axis of labels.
        iterations: at most; the first that changes no label is the last. With 0 every node takes its cheapest label.
        between_levels: which messages parents and children send each other.
    """
    rounds = rounds_of_messages(levels, between_levels)
    edges = [edge for batch in rounds for edge in batch]
    arriving: list[list[int]] = [[] for _ in costs]
    for number, (_, receiver) in enumerate(edges):
        arriving[receiver].append(number)
    # The last message stays zero: it fills the rows of nodes that have fewer neighbours than others.
    messages = costs.new_zeros(len(edges) + 1, *costs.shape[1:])
    incoming = _table([[k for k in arriving[i] if edges[k][0] != j] for i, j in edges], len(edges), costs.device)
    incoming_of_nodes = _table(arriving, len(edges), costs.device)
    senders = torch.tensor([i for i, _ in edges], dtype=torch.int64, device=costs.device)

    labels = costs.flatten(1).argmin(dim=1)
    for _ in range(iterations):
        start = 0
        for batch in rounds:
            now = slice(start, start + len(batch))
            sent = costs[senders[now]] + _sums(messages, incoming[now])
            for axis, each in enumerate(smoothness, start=1):
                sent = smallest_around(sent, axis, each)
            # Only differences matter; a common constant would circulate and grow without bound.
            messages[now] = sent - sent.amin(dim=tuple(range(1, sent.ndim)), keepdim=True)
            start = now.stop
        before, labels = labels, (costs + _sums(messages, incoming_of_nodes)).flatten(1).argmin(dim=1)
        if torch.equal(before, labels):
            break
    return labels


def smallest_around(costs: Tensor, axis: int, smoothness: Smoothness) -> Tensor:
    """min over l' of costs(l') + min(slope |l - l'|, truncation) for every l along one axis.

    The two passes of Felzenszwalb and Huttenlocher's distance transform (*Efficient Belief Propagation for Early
    Vision*, IJCV 2006, section 3.1). Each is a running minimum: among the labels up to l, costs(l') + slope (l - l') is
    smallest where costs(l') - slope l' is smallest.
    """
    shape = [1] * costs.ndim
    shape[axis] = -1
    ramp = smoothness.slope * torch.arange(costs.shape[axis], dtype=costs.dtype, device=costs.device).reshape(shape)
    from_below = (costs - ramp).cummin(dim=axis).values + ramp
    from_above = (costs + ramp).flip(axis).cummin(dim=axis).values.flip(axis) - ramp
    from_anywhere = costs.amin(dim=axis, keepdim=True) + smoothness.truncation
    return from_below.minimum(from_above).minimum(from_anywhere)


def rounds_of_messages(levels: int, between_levels: Messages = Messages.both) -> list[list[Edge]]:
    """One iteration's messages (from, to) in rounds; messages of a round do not depend on each other.

    First from parents to children, top down; then from children to parents, bottom up, if they send any; then to the
    neighbours on the right and below, diagonal by diagonal, in all levels at once; then the same in reverse order and
    direction.
    """
    down = [
        [(_number(level - 1, y // 2, x // 2), _number(level, y, x)) for y, x in _positions(level)]
        for level in range(1, levels)
    ]
    forward = [
        [
            (_number(level, y, x), _number(level, *neighbour))
            for level in range(levels)
            for y, x in _positions(level)
            for neighbour in ((y, x + 1), (y + 1, x))
            if y + x == diagonal and max(neighbour) < 1 << level
        ]
        for diagonal in range(2 * (1 << (levels - 1)) - 2)
    ]
    up = _reversed(down) if between_levels is Messages.both else []
    return [*down, *up, *forward, *_reversed(forward)]


def count_nodes(levels: int) -> int:
    return ((1 << 2 * levels) - 1) // 3


def count_messages(levels: int) -> int:
    return sum(len(batch) for batch in rounds_of_messages(levels))


def _number(level: int, row: int, column: int) -> int:
    return count_nodes(level) + (row << level) + column


def _positions(level: int) -> list[tuple[int, int]]:
    return [(row, column) for row in range(1 << level) for column in range(1 << level)]


def _reversed(rounds: list[list[Edge]]) -> list[list[Edge]]:
    return [[(j, i) for i, j in batch] for batch in reversed(rounds)]


def _table(rows: list[list[int]], filler: int, device: torch.device) -> Tensor:
    """Rows of numbers padded to one length with a filler, at least one each: (N, K) int64."""
    length = max((len(row) for row in rows), default=0) + 1
    filled = [row + [filler] * (length - len(row)) for row in rows]
    return torch.tensor(filled, dtype=torch.int64, device=device).reshape(len(rows), length)


def _sums(messages: Tensor, chosen: Tensor) -> Tensor:
    """Sums of messages (E, ...), those whose numbers stand in each row of (N, K): (N, ...)."""
    return F.embedding_bag(chosen, messages.flatten(1), mode="sum").reshape(-1, *messages.shape[1:])
