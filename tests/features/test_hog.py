"""OpenCV's HOG, condensed to Felzenszwalb's 31 numbers: the right ones, at the right pixel."""

import numpy as np
import torch
from numpy.typing import NDArray

from geomatch.features.handcrafted.hog import HogFeatures
from tests.features.test_extractors import photograph

CPU = torch.device("cpu")


def ramp(degrees: float) -> torch.Tensor:
    """Brightness that grows by two a pixel towards ``degrees``, from x (right) to y (down)."""
    y, x = np.mgrid[-31.5:32, -31.5:32]
    brightness = 128 + 2 * (x * np.cos(np.radians(degrees)) + y * np.sin(np.radians(degrees)))
    return torch.from_numpy(brightness.round().astype(np.uint8)).expand(3, -1, -1)


def test_hog_puts_a_ramp_into_the_bin_of_its_direction() -> None:
    for bin_ in range(18):
        inner = HogFeatures(64, CPU)(ramp(10 + 20 * bin_)).descriptors[:, 4:12, 4:12]
        sensitive, insensitive, texture = inner.split((18, 9, 4))
        assert (sensitive.argmax(dim=0) == bin_).all()
        assert (insensitive.argmax(dim=0) == bin_ % 9).all()
        torch.testing.assert_close(texture, texture[:1].expand(4, -1, -1), atol=0.02, rtol=0)


def test_hog_sides_of_a_bar_differ_in_contrast_alone() -> None:
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    image[:, :, 24:40] = 200
    found = HogFeatures(64, CPU)(image)
    middles = found.grid.centres()[:16, 0]
    left, right = (found.descriptors[:, 8, int((middles - edge).abs().argmin())] for edge in (23.5, 39.5))
    # Towards x is on the border of the first bin and the last one, against it on that of the ninth and the tenth.
    assert left[:18].nonzero().flatten().tolist() == [0, 17]
    assert right[:18].nonzero().flatten().tolist() == [8, 9]
    torch.testing.assert_close(left[18:27], right[18:27])
    assert left[18:27].nonzero().flatten().tolist() == [0, 8]


def test_hog_of_a_mirrored_image_is_mirrored() -> None:
    # On 80 x 64 pixels the lattice 1.5, 5.5, ... is its own mirror image.
    image = photograph(64, 80)
    found = HogFeatures(80, CPU)(image)
    x, y = found.grid.centres().T
    torch.testing.assert_close(x.unique(), torch.arange(1.5, 80, 4))
    torch.testing.assert_close(y.unique(), torch.arange(1.5, 64, 4))
    sensitive, insensitive, texture = found.descriptors.split((18, 9, 4))
    lower_upper = texture.reshape(2, 2, *found.grid.shape)
    across = torch.cat((sensitive[(8 - torch.arange(18)) % 18], insensitive.flip(0), lower_upper.flip(1).flatten(0, 1)))
    mirrored = HogFeatures(80, CPU)(image.flip(2)).descriptors.flip(2)
    torch.testing.assert_close(mirrored, across, atol=1e-3, rtol=0)
    down = torch.cat((sensitive.flip(0), insensitive.flip(0), lower_upper.flip(0).flatten(0, 1)))
    mirrored = HogFeatures(80, CPU)(image.flip(1)).descriptors.flip(1)
    torch.testing.assert_close(mirrored, down, atol=1e-3, rtol=0)


def slow_block(padded: NDArray[np.float64], left: int, top: int) -> NDArray[np.float64]:
    """The normalised histograms (2, 2, 18) of a block's cells, pixel by pixel, after Dalal and Triggs."""
    histogram = np.zeros((2, 2, 18))
    for row in range(16):
        for column in range(16):
            y, x = top + row, left + column
            dx, dy = padded[y, x + 1] - padded[y, x - 1], padded[y + 1, x] - padded[y - 1, x]
            strongest = np.argmax(np.hypot(dx, dy)[::-1])
            dx, dy = dx[::-1][strongest], dy[::-1][strongest]
            turn = np.degrees(np.arctan2(dy, dx)) / 20
            for i, j in np.ndindex(2, 2):
                near = max(0, 1 - abs(row - 3.5 - 8 * i) / 8) * max(0, 1 - abs(column - 3.5 - 8 * j) / 8)
                for k in range(18):
                    between = max(0, 1 - abs((turn - k - 0.5 + 9) % 18 - 9))
                    histogram[i, j, k] += np.hypot(dx, dy) * near * between
    clipped = (histogram / (np.linalg.norm(histogram) + 0.1 * histogram.size)).clip(max=0.2)
    return np.asarray(clipped / (np.linalg.norm(clipped) + 1e-3))


def test_hog_equals_a_slow_computation() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (16, 20, 3), np.uint8)
    found = HogFeatures(20, CPU)(torch.from_numpy(colours).permute(2, 0, 1))
    assert found.grid.shape == (4, 5)
    padded = np.pad(colours.astype(np.float64), ((15, 15), (15, 15), (0, 0)), mode="reflect")
    for row, column in [(0, 0), (1, 2), (3, 4)]:
        centre = found.grid.centres()[row * found.grid.width + column].tolist()
        left, top = (round(15 + position - 3.5) for position in centre)
        cells = [slow_block(padded, left + 8 * (j - 1), top + 8 * (i - 1))[1 - i, 1 - j] for i, j in np.ndindex(2, 2)]
        sensitive = sum(cells) / 2
        texture = [cell.sum() / np.sqrt(18) for cell in cells]
        expected = np.concatenate((sensitive, sensitive[:9] + sensitive[9:], texture))
        expected /= np.linalg.norm(expected)
        np.testing.assert_allclose(found.descriptors[:, row, column], expected, atol=1e-4)
