"""Histograms of oriented gradients as Felzenszwalb et al. (PAMI 2010) condense them: 31 numbers a cell."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.features.base import FeatureExtractor
from geomatch.features.opencv import SPACING, lay_out_bytes, opencv, unit_descriptors

CELL = 8
"""Side of a cell in pixels of the resized image: twice SPACING, so cells overlap by half."""

ORIENTATIONS = 18
"""Bins of 20 degrees, the first one from 0 to 20, turning from x (right) to y (down)."""

_EVENLY = 1e4
"""Standard deviation, in pixels, of the weights of a block's pixels: so wide that all weigh the same."""


class HogFeatures(FeatureExtractor):
    """OpenCV's HOG, condensed: a cell's histogram as each of the four 2 x 2 blocks that hold it normalises it.

    18 numbers are the contrast-sensitive histogram, summed over the blocks and halved; 9 the contrast-insensitive
    one, the sum of opposite orientations; 4 the texture energies, for each block the sum over all orientations over
    sqrt(18). Every cell is then scaled to unit length.

    The released code differs: it shares a pixel's gradient out among cells only, and not between two orientations,
    whose bins are centred at 0, 20, ... degrees; a cell gets its share of the pixels beyond a block's edge, too; blocks
    are normalised by the energy of their contrast-insensitive histograms, and clipped at .2 afterwards, each kind of
    histogram for itself, where OpenCV clips the contrast-sensitive one and normalises again (L2-Hys); and it adds a
    32nd number that is 1 beyond the image, where this mirrors the image.

    Raises InputError without OpenCV.
    """

    name = "hog"

    def __init__(self, working_size: int, device: torch.device) -> None:
        opencv(self.name)
        self.working_size = working_size
        self.device = device

    def __call__(self, image: Tensor) -> FeatureMap:
        canvas, pixels = lay_out_bytes(image, self.working_size)
        cells = condense(normalised_cells(pixels))
        # Cell k covers the pixels from SPACING * k on; that of the first block's far corner is the first with four.
        offset, reach = (CELL - 1) / 2, CELL // SPACING
        grid, first = canvas.grid(SPACING, offset), canvas.first_cell(SPACING, offset) - reach
        cells = cells[first : first + grid.height, first : first + grid.width]
        return FeatureMap(unit_descriptors(cells).to(self.device), canvas.image_size, grid)


def normalised_cells(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Histograms of the cells of an image (h, w, 3) uint8, SPACING pixels apart, that lie in four blocks.

    Returns (rows, columns, 2, 2, 18) float32, for the blocks in which the cell is the lower, upper; right, left one.
    The first cell's upper left pixel is (CELL, CELL).
    """
    cv2 = opencv("hog")
    height, width = (length - length % SPACING for length in pixels.shape[:2])
    hog = cv2.HOGDescriptor(
        (width, height), (2 * CELL,) * 2, (SPACING,) * 2, (CELL,) * 2, ORIENTATIONS,
        _winSigma=_EVENLY, _gammaCorrection=False, _signedGradient=True,
    )  # fmt: skip
    rows, columns = (1 + (length - 2 * CELL) // SPACING for length in (height, width))
    blocks = hog.compute(np.ascontiguousarray(pixels[:height, :width]))
    # OpenCV's order: columns of blocks, in each its columns of cells.
    blocks = blocks.reshape(columns, rows, 2, 2, ORIENTATIONS).transpose(1, 0, 3, 2, 4)
    reach = CELL // SPACING
    lower, upper = slice(0, rows - reach), slice(reach, rows)
    right, left = slice(0, columns - reach), slice(reach, columns)
    return np.stack(
        [
            np.stack([blocks[lower, right, 1, 1], blocks[lower, left, 1, 0]], axis=2),
            np.stack([blocks[upper, right, 0, 1], blocks[upper, left, 0, 0]], axis=2),
        ],
        axis=2,
    )


def condense(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """The 31 numbers (rows, columns, 31) of cells (rows, columns, 2, 2, 18)."""
    sensitive = cells.sum(axis=(2, 3)) / 2
    insensitive = sensitive[..., : ORIENTATIONS // 2] + sensitive[..., ORIENTATIONS // 2 :]
    texture = cells.sum(axis=4).reshape(*cells.shape[:2], 4) / np.sqrt(np.float32(ORIENTATIONS))
    return np.concatenate((sensitive, insensitive, texture), axis=2)
