"""OpenCV's SIFT on a dense lattice: the right numbers, at the right pixel."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from geomatch.features.handcrafted.sift import SMOOTHING, SiftFeatures
from tests.features.test_extractors import photograph

CPU = torch.device("cpu")


def test_sift_of_a_mirrored_image_is_mirrored() -> None:
    # On 81 x 65 pixels the lattice 2, 6, ... is its own mirror image, so a descriptor that lay half a pixel off the
    # centre of its cell would not find its mirror image.
    image = photograph(65, 81)
    found = SiftFeatures(81, CPU)(image)
    x, y = found.grid.centres().T
    torch.testing.assert_close(x.unique(), torch.arange(2.0, 80, 4))
    torch.testing.assert_close(y.unique(), torch.arange(2.0, 64, 4))

    descriptors = found.descriptors.reshape(4, 4, 8, *found.grid.shape)  # rows, columns and orientations of the cells
    turned = torch.arange(8)
    across = SiftFeatures(81, CPU)(image.flip(2)).descriptors.flip(2).reshape(descriptors.shape)
    torch.testing.assert_close(across, descriptors.flip(1)[:, :, (4 - turned) % 8], atol=0.02, rtol=0)
    down = SiftFeatures(81, CPU)(image.flip(1)).descriptors.flip(1).reshape(descriptors.shape)
    torch.testing.assert_close(down, descriptors.flip(0)[:, :, -turned % 8], atol=0.02, rtol=0)


def test_sift_of_a_vertical_edge() -> None:
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    image[:, :, 32:] = 200
    found = SiftFeatures(64, CPU)(image)
    at_edge = found.descriptors.reshape(4, 4, 8, *found.grid.shape)[..., 8, 7]  # centred on pixel (30, 34)
    assert found.grid.centres()[8 * 16 + 7].tolist() == [30, 34]
    # The edge, at 31.5, is 1.5 pixels right of the centre, .5 left of the third column of cells.
    assert at_edge[:, :, 1:].max() == 0
    strength = at_edge[:, :, 0].sum(dim=0)
    assert strength.argmax() == 2
    assert strength[1] > strength[3] > strength[0]


def slow_sift(padded: NDArray[np.float64], x: int, y: int) -> NDArray[np.float64]:
    """The descriptor at a pixel of a smoothed grey image, pixel by pixel, after Lowe's section 6."""
    histogram = np.zeros((4, 4, 8))
    for row in range(y - 10, y + 11):
        for column in range(x - 10, x + 11):
            dx = padded[row, column + 1] - padded[row, column - 1]
            dy = padded[row - 1, column] - padded[row + 1, column]  # upwards
            u, v = (column - x) / 4, (row - y) / 4
            weight = np.hypot(dx, dy) * np.exp(-(u**2 + v**2) / 8)
            turn = np.arctan2(dy, dx) / (np.pi / 4)
            for i, j, k in np.ndindex(4, 4, 8):
                near = max(0, 1 - abs(v + 1.5 - i)) * max(0, 1 - abs(u + 1.5 - j))
                histogram[i, j, k] += weight * near * max(0, 1 - abs((turn - k + 4) % 8 - 4))
    unit = (histogram / np.linalg.norm(histogram)).clip(max=0.2).ravel()
    return np.asarray(unit / np.linalg.norm(unit))


def test_sift_equals_a_slow_computation() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (24, 28), np.uint8)
    found = SiftFeatures(28, CPU)(torch.from_numpy(grey).expand(3, -1, -1))
    # OpenCV assumes that a photograph is already smoothed by half a pixel.
    padded = gaussian_filter(np.pad(grey.astype(np.float64), 20, mode="reflect"), np.sqrt(SMOOTHING**2 - 0.25))
    for row, column in [(0, 0), (0, 6), (2, 3), (5, 1), (5, 6)]:
        x, y = found.grid.centres()[row * found.grid.width + column].round().long().tolist()
        expected = slow_sift(padded, x + 20, y + 20)
        np.testing.assert_allclose(found.descriptors[:, row, column], expected, atol=0.01)
