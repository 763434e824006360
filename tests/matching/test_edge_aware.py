import numpy as np
import pytest
import torch

from geomatch.matching.proposal_flow.edge_aware import smooth_to_edges, to_lab


def slow_weights(values: np.ndarray, bandwidth: float) -> np.ndarray:
    """(P, P), edge after edge, of values (C, h, w)."""
    height, width = values.shape[1:]
    squares = {}
    for y, x in np.ndindex(height, width):
        for y2, x2 in ((y, x + 1), (y + 1, x)):
            if y2 < height and x2 < width:
                squares[y * width + x, y2 * width + x2] = ((values[:, y, x] - values[:, y2, x2]) ** 2).sum()
    least, most = min(squares.values()), max(squares.values())
    weights = np.zeros((height * width,) * 2)
    for (i, j), square in squares.items():
        distance = (square - least) / (most - least) if most > least else 0.0
        weights[i, j] = weights[j, i] = np.exp(-bandwidth * distance) + 1e-5
    return weights


def slow_filter(flow: np.ndarray, known: np.ndarray, image: np.ndarray, smoothness: float) -> np.ndarray:
    static = slow_weights(to_lab(image), 30)
    smooth = []
    for channel in flow:
        before = np.ones_like(channel)
        for _ in range(2):
            weights = static * slow_weights(before[None], 15)
            laplacian = np.diag(weights.sum(axis=0)) - weights
            matrix = np.diag(known.ravel().astype(float)) + smoothness * laplacian
            before = np.linalg.solve(matrix, (channel * known).ravel()).reshape(channel.shape)
        smooth.append(before)
    return np.array(smooth)


@pytest.mark.parametrize("size", [(7, 9), (9, 7), (1, 8), (8, 1)])
def test_smooth_to_edges_solves_the_dense_equations(size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    flow, image, known = random.normal(size=(2, *size)), random.random((3, *size)), random.random(size) < 0.4
    found = smooth_to_edges(*map(torch.from_numpy, (flow, known, image)), smoothness=20)
    np.testing.assert_allclose(found.numpy(), slow_filter(flow, known, image, 20), rtol=1e-6, atol=1e-9)


def test_smooth_to_edges_fills_holes_up_to_an_edge() -> None:
    """Black left and white right, moving apart, with holes everywhere but in the corners."""
    image, known = torch.zeros(3, 10, 12), torch.zeros(10, 12, dtype=torch.bool)
    image[:, :, 6:] = 1
    known[::9, ::11] = True
    flow = torch.zeros(2, 10, 12)
    flow[0, :, :6], flow[0, :, 6:] = -5, 8
    found = smooth_to_edges(flow, known, image, 20)
    torch.testing.assert_close(found[0, :, :6], torch.full((10, 6), -5.0), atol=0.1, rtol=0)
    torch.testing.assert_close(found[0, :, 6:], torch.full((10, 6), 8.0), atol=0.1, rtol=0)
    assert found[1].abs().max() < 1e-6


def test_smooth_to_edges_keeps_a_constant() -> None:
    for size in ((6, 5), (1, 1)):
        known = torch.zeros(size, dtype=torch.bool)
        known[0, 0] = True
        found = smooth_to_edges(torch.full((2, *size), 3.0), known, torch.zeros(3, *size), 20)
        torch.testing.assert_close(found, torch.full((2, *size), 3.0))


def test_to_lab_of_known_colours() -> None:
    """White, black, middle grey and sRGB's red and blue (Lindbloom's calculator, D65)."""
    colours = np.array([[1, 1, 1], [0, 0, 0], [0.5, 0.5, 0.5], [1, 0, 0], [0, 0, 1]]).T[:, None]
    expected = [[100, 0, 0], [0, 0, 0], [53.39, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
    np.testing.assert_allclose(to_lab(colours)[:, 0].T, expected, atol=0.05)
