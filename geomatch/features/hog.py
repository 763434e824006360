"""Histograms of oriented gradients as Felzenszwalb et al. (PAMI 2010) condense them: 31 numbers a cell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.features.gradients import SPACING, GradientFeatures, unit_descriptors
from geomatch.opencv import opencv

CELL = 8
"""Side of a cell in pixels of the resized image: twice SPACING, so cells overlap by half."""

ORIENTATIONS = 18
"""Bins of 20 degrees, the first one from 0 to 20, turning from x (right) to y (down)."""

_EVENLY = 1e4
"""Standard deviation, in pixels, of the weights of a block's pixels: so wide that all weigh the same."""


class HogFeatures(GradientFeatures):
    """OpenCV's HOG, condensed: a cell's histogram as each of the four 2 x 2 blocks that hold it normalises it.

    18 numbers are the contrast-sensitive histogram, summed over the blocks and halved; 9 the contrast-insensitive
    one, the sum of opposite orientations; 4 the texture energies, for each block the sum over all orientations over
    sqrt(18). Every cell is then scaled to unit length.

    The released code differs: it shares a pixel's gradient out among cells only, and not between two orientations,
    whose bins are centred at 0, 20, ... degrees; a cell gets its share of the pixels beyond a block's edge, too; blocks
    are normalised by the energy of their contrast-insensitive histograms, and clipped at .2 afterwards, each kind of
    histogram for itself, where OpenCV clips the contrast-sensitive one and normalises again (L2-Hys); and it adds a
    32nd number that is 1 beyond the image, where this mirrors the image.
    """

    name = "hog"

    def __call__(self, image: Tensor) -> FeatureMap:
        canvas, pixels = self.lay_out(image)
        cells = condense(cells_in_blocks(pixels))
        # Cells are SPACING apart, the first one begins at pixel 0; those that have only some of the blocks are missing.
        offset, missing = (CELL - 1) / 2, CELL // SPACING
        grid, first = canvas.grid(SPACING, offset), canvas.first_cell(SPACING, offset) - missing
        on_image = cells[first : first + grid.height, first : first + grid.width]
        return FeatureMap(unit_descriptors(on_image).to(self.device), canvas.image_size, grid)


def cells_in_blocks(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What four blocks make of each cell of an image (h, w, 3) uint8 whose four blocks all lie on the image.

    Cells are SPACING apart; the first one's upper left pixel is (CELL, CELL). Returns (rows, columns, 4, 18) float32:
    the cell's histogram in the blocks in which it is the lower right, lower left, upper right and upper left one.
    """
    cv2 = opencv(HogFeatures.name)
    height, width = (length - length % SPACING for length in pixels.shape[:2])
    hog = cv2.HOGDescriptor(
        (width, height),
        (2 * CELL, 2 * CELL),
        (SPACING, SPACING),
        (CELL, CELL),
        ORIENTATIONS,
        _winSigma=_EVENLY,
        _gammaCorrection=False,
        _signedGradient=True,
    )
    rows, columns = (1 + (length - 2 * CELL) // SPACING for length in (height, width))
    blocks: NDArray[np.float32] = hog.compute(np.ascontiguousarray(pixels[:height, :width]))
    # OpenCV goes down the columns: of blocks, and of the cells in each.
    blocks = blocks.reshape(columns, rows, 2, 2, ORIENTATIONS).transpose(1, 0, 3, 2, 4)
    step = CELL // SPACING

    def blocks_with_cell_at(row: int, column: int) -> NDArray[np.float32]:
        return blocks[step * (1 - row) : rows - step * row, step * (1 - column) : columns - step * column, row, column]

    return np.stack([blocks_with_cell_at(row, column) for row in (1, 0) for column in (1, 0)], axis=2)


def condense(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """The 31 numbers (rows, columns, 31) of cells (rows, columns, 4, 18)."""
    sensitive = cells.sum(axis=2) / 2
    insensitive = sensitive[..., : ORIENTATIONS // 2] + sensitive[..., ORIENTATIONS // 2 :]
    texture = cells.sum(axis=3) / np.sqrt(np.float32(ORIENTATIONS))
    return np.concatenate((sensitive, insensitive, texture), axis=2)
