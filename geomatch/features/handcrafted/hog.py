"""Histograms of oriented gradients, every few pixels of an image: see `gradient_histograms`."""

from __future__ import annotations

from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.features.handcrafted.gradient_histograms import CELL, cells_in_blocks, condense
from geomatch.features.handcrafted.gradients import SPACING, GradientFeatures, unit_descriptors


class HogFeatures(GradientFeatures):
    """OpenCV's HOG, condensed: a cell's histogram as each of the four 2 x 2 blocks that hold it normalises it.

    Cells are twice as wide as SPACING, so they overlap by half. Every cell is scaled to unit length.

    The released code differs: it shares a pixel's gradient out among cells only, and not between two orientations,
    whose bins are centred at 0, 20, ... degrees; a cell gets its share of the pixels beyond a block's edge, too; blocks
    are normalised by the energy of their contrast-insensitive histograms, and clipped at .2 afterwards, each kind of
    histogram for itself, where OpenCV clips the contrast-sensitive one and normalises again (L2-Hys); and it adds a
    32nd number that is 1 beyond the image, where this mirrors the image.
    """

    name = "hog"

    def __call__(self, image: Tensor) -> FeatureMap:
        canvas, pixels = self.lay_out(image)
        cells = condense(cells_in_blocks(pixels, SPACING))
        # Cells are SPACING apart, the first one begins at pixel 0; those that have only some of the blocks are missing.
        offset, missing = (CELL - 1) / 2, CELL // SPACING
        grid, first = canvas.grid(SPACING, offset), canvas.first_cell(SPACING, offset) - missing
        on_image = cells[first : first + grid.height, first : first + grid.width]
        return FeatureMap(unit_descriptors(on_image).to(self.device), canvas.image_size, grid)
