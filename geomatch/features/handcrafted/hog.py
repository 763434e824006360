"""Dense HOG: histograms of oriented gradients every few pixels; see `gradient_histograms`."""

from __future__ import annotations

from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.features.handcrafted.gradient_histograms import CELL, cells_in_blocks, condense
from geomatch.features.handcrafted.gradients import SPACING, GradientFeatures


class HogFeatures(GradientFeatures):
    """OpenCV's HOG, condensed: a cell's histogram as each of the four 2 x 2 blocks that hold it normalises it.

    Cells are twice as wide as SPACING, so they overlap by half. Every cell is scaled to unit length.

    The code that Felzenszwalb et al. released differs. It interpolates a pixel's gradient among cells, but not between
    orientations, whose bins it centres at 0, 20, ... degrees. A cell also receives its share of pixels outside a block.
    Blocks are normalised by the energy of their contrast-insensitive histograms, then each kind of histogram is clipped
    at 0.2; OpenCV clips the contrast-sensitive one and normalises again (L2-Hys). A 32nd channel is 1 outside the
    image, where this code mirrors the image.
    """

    name = "hog"

    def __call__(self, image: Tensor) -> FeatureMap:
        canvas, pixels = self.draw(image)
        cells = condense(cells_in_blocks(pixels, SPACING))
        # Cells are SPACING apart and the first begins at pixel 0. Cells that are not in all four blocks are missing.
        offset, missing = (CELL - 1) / 2, CELL // SPACING
        grid, first = canvas.grid(SPACING, offset), canvas.first_cell(SPACING, offset) - missing
        on_image = cells[first : first + grid.height, first : first + grid.width]
        return self.feature_map(on_image, canvas, grid)


load = HogFeatures.load
