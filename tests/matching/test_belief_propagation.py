"""All numbers here are small multiples of 1/256, which float32 adds exactly; so results must be equal."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geomatch.matching.spatial_pyramid.belief_propagation import (
    Messages,
    Smoothness,
    count_messages,
    find_labels,
    smallest_around,
)

Node = tuple[int, int, int]  # level, row, column
Label = tuple[int, ...]


def dyadic(random: np.random.Generator, shape: tuple[int, ...], below: int) -> np.ndarray:
    return random.integers(0, below, shape) / 256


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 40), st.integers(0, 300), st.integers(0, 2**32 - 1))
def test_smallest_around_is_the_minimum_over_all_labels(
    height: int, width: int, slope: int, truncation: int, seed: int
) -> None:
    costs = dyadic(np.random.default_rng(seed), (3, height, width), 512)
    smoothness = Smoothness(slope / 256, truncation / 256)
    y, x = np.arange(height), np.arange(width)
    penalty_y = np.minimum(smoothness.slope * abs(y[:, None] - y), smoothness.truncation)
    penalty_x = np.minimum(smoothness.slope * abs(x[:, None] - x), smoothness.truncation)
    found = [smallest_around(torch.from_numpy(costs).float(), axis, smoothness).numpy() for axis in (1, 2)]
    assert (found[0] == (costs[:, None] + penalty_y[:, :, None]).min(axis=2)).all()
    assert (found[1] == (costs[:, :, None] + penalty_x).min(axis=3)).all()


def nodes_of(levels: int) -> list[Node]:
    return [(level, y, x) for level in range(levels) for y in range(2**level) for x in range(2**level)]


def children(node: Node) -> list[Node]:
    level, y, x = node
    return [(level + 1, 2 * y + dy, 2 * x + dx) for dy in (0, 1) for dx in (0, 1)]


def neighbours(node: Node, step: int) -> list[Node]:
    """On the right and below, or with ``step`` -1 on the left and above."""
    level, y, x = node
    return [(level, *at) for at in ((y, x + step), (y + step, x)) if min(at) >= 0 and max(at) < 2**level]


def penalty(smoothness: list[Smoothness], one: Label, other: Label) -> float:
    return sum(min(s.slope * abs(a - b), s.truncation) for s, a, b in zip(smoothness, one, other, strict=True))


def slow_labels(
    costs: np.ndarray, levels: int, smoothness: list[Smoothness], iterations: int, between_levels: Messages
) -> list[int]:
    """One message after the other, and for each label of the receiver all labels of the sender."""
    nodes = nodes_of(levels)
    labels = list(np.ndindex(costs.shape[1:]))
    data = {node: {label: float(costs[(i, *label)]) for label in labels} for i, node in enumerate(nodes)}
    received: dict[Node, dict[Node, dict[Label, float]]] = {node: {} for node in nodes}

    def send(sender: Node, receiver: Node) -> None:
        belief = {
            label: data[sender][label] + sum(m[label] for other, m in received[sender].items() if other != receiver)
            for label in labels
        }
        message = {to: min(belief[label] + penalty(smoothness, label, to) for label in labels) for to in labels}
        least = min(message.values())
        received[receiver][sender] = {label: value - least for label, value in message.items()}

    def decide() -> list[int]:
        beliefs = [[data[n][label] + sum(m[label] for m in received[n].values()) for label in labels] for n in nodes]
        return [int(np.argmin(belief)) for belief in beliefs]

    parents = [node for node in nodes if node[0] < levels - 1]
    now = decide()
    for _ in range(iterations):
        for parent in parents:
            for child in children(parent):
                send(parent, child)
        for parent in reversed(parents) if between_levels is Messages.both else ():
            for child in children(parent):
                send(child, parent)
        for node in nodes:
            for neighbour in neighbours(node, 1):
                send(node, neighbour)
        for node in reversed(nodes):
            for neighbour in neighbours(node, -1):
                send(node, neighbour)
        before, now = now, decide()
        if before == now:
            break
    return now


@pytest.mark.parametrize("between_levels", Messages)
@pytest.mark.parametrize(("levels", "shape"), [(1, (3, 4)), (2, (4, 3)), (3, (3, 3)), (3, (2, 3, 2))])
def test_find_labels_equals_messages_sent_one_by_one(
    levels: int, shape: tuple[int, ...], between_levels: Messages
) -> None:
    random = np.random.default_rng(0)
    smoothness = [Smoothness(9 / 256, 20 / 256), Smoothness(12 / 256, 16 / 256), Smoothness(7 / 256, 1.0)][: len(shape)]
    several = 0
    for _ in range(3):
        costs = dyadic(random, (len(nodes_of(levels)), *shape), 100)
        for iterations in (0, 1, 4):
            found = find_labels(
                torch.from_numpy(costs).float(), levels, smoothness, iterations, between_levels
            ).tolist()
            assert found == slow_labels(costs, levels, smoothness, iterations, between_levels)
        several += len(set(found)) > 1
    assert levels == 1 or several >= 2  # smoothness did not simply make all nodes alike


def energy(costs: np.ndarray, smoothness: list[Smoothness], found: list[int]) -> float:
    """Of a pyramid of two levels."""
    nodes, labels = nodes_of(2), list(np.ndindex(costs.shape[1:]))
    chosen = {node: labels[number] for node, number in zip(nodes, found, strict=True)}
    edges = [(nodes[0], child) for child in children(nodes[0])]
    edges += [(node, other) for node in nodes for other in neighbours(node, 1)]
    unary = sum(float(costs[(i, *chosen[node])]) for i, node in enumerate(nodes))
    return unary + sum(penalty(smoothness, chosen[a], chosen[b]) for a, b in edges)


def test_find_labels_mostly_finds_the_smallest_energy() -> None:
    random = np.random.default_rng(1)
    smoothness = [Smoothness(20 / 256, 40 / 256)] * 2
    smallest = 0
    for _ in range(10):
        costs = dyadic(random, (5, 2, 2), 256)
        found = energy(costs, smoothness, find_labels(torch.from_numpy(costs).float(), 2, smoothness, 50).tolist())
        alone = energy(costs, smoothness, costs.reshape(5, -1).argmin(axis=1).tolist())
        least = min(energy(costs, smoothness, list(labels)) for labels in product(range(4), repeat=5))
        assert least <= found <= alone
        smallest += found == least
    assert smallest >= 9


def test_find_labels_takes_the_lowest_of_equal_labels() -> None:
    assert find_labels(torch.zeros(21, 3, 3), 3, [Smoothness(0.1, 1)] * 2, 10).tolist() == [0] * 21


def test_count_messages_has_two_for_every_edge() -> None:
    """Four edges from each parent, and 2 n (n - 1) within a level of n x n nodes."""
    assert [count_messages(levels) for levels in (1, 2, 3)] == [0, 2 * (4 + 4), 2 * (4 + 4 + 16 + 24)]
