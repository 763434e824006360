"""Histograms of oriented gradients as Felzenszwalb et al. (PAMI 2010) condense them: 31 channels a cell, by OpenCV."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geomatch.runtime.optional import import_opencv

CELL = 8
"""Side of a cell in pixels."""

ORIENTATIONS = 18
"""Number of bins of 20 degrees; the first is from 0 to 20, turning from x (right) to y (down)."""

CHANNELS = 31
"""Channels that a cell is condensed to."""

_UNIFORM = 1e4
"""Standard deviation, in pixels, of the weights of a block's pixels: so wide that all pixels weigh the same."""


def cells_in_blocks(pixels: NDArray[np.uint8], spacing: int) -> NDArray[np.float32]:
    """The histograms of each cell of an image (h, w, 3) uint8, as normalised in the four blocks that hold it.

    Cells are ``spacing`` pixels apart, of which CELL is a multiple, and have all four blocks on the image; the first
    one's upper left pixel is (CELL, CELL). Returns (rows, columns, 4, 18) float32, for the blocks in which the cell is
    the lower right, lower left, upper right and upper left one. Raises InputError without OpenCV.
    """
    cv2 = import_opencv("hog")
    height, width = (length - length % spacing for length in pixels.shape[:2])
    hog = cv2.HOGDescriptor(
        (width, height),
        (2 * CELL, 2 * CELL),
        (spacing, spacing),
        (CELL, CELL),
        ORIENTATIONS,
        _winSigma=_UNIFORM,
        _gammaCorrection=False,
        _signedGradient=True,
    )
    rows, columns = (1 + (length - 2 * CELL) // spacing for length in (height, width))
    blocks: NDArray[np.float32] = hog.compute(np.ascontiguousarray(pixels[:height, :width]))
    # OpenCV orders blocks, and the cells in each, column by column.
    blocks = blocks.reshape(columns, rows, 2, 2, ORIENTATIONS).transpose(1, 0, 3, 2, 4)
    step = CELL // spacing

    def blocks_with_cell_at(row: int, column: int) -> NDArray[np.float32]:
        return blocks[step * (1 - row) : rows - step * row, step * (1 - column) : columns - step * column, row, column]

    return np.stack([blocks_with_cell_at(row, column) for row in (1, 0) for column in (1, 0)], axis=2)


def condense(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    """Condense cells (rows, columns, 4, 18) to (rows, columns, 31).

    18 channels are the contrast-sensitive histogram, summed over the blocks and halved; 9 the contrast-insensitive one,
    the sum of opposite orientations; 4 the texture energies, each block's sum over all orientations over sqrt(18).
    """
    sensitive = cells.sum(axis=2) / 2
    insensitive = sensitive[..., : ORIENTATIONS // 2] + sensitive[..., ORIENTATIONS // 2 :]
    texture = cells.sum(axis=3) / np.sqrt(np.float32(ORIENTATIONS))
    return np.concatenate((sensitive, insensitive, texture), axis=2)
