"""Dense SIFT (Lowe, IJCV 2004; Liu et al., PAMI 2011): the descriptor alone, upright, at every point of a lattice."""

from __future__ import annotations

from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.features.handcrafted.gradients import SPACING, GradientFeatures, unit_descriptors
from geomatch.runtime.optional import opencv

CELL = 4
"""Side of each of a descriptor's 4 x 4 cells, in pixels of the resized image."""

SMOOTHING = 4 / 3
"""Standard deviation of the Gaussian the image is smoothed with, in pixels: as for a keypoint of that scale, whose
cells are three times as wide."""


class SiftFeatures(GradientFeatures):
    """OpenCV's SIFT of the grey image: 4 x 4 cells of 4 pixels, 8 orientations, 128 numbers.

    Gradients are weighed by a Gaussian of two cells, shared out linearly among cells and orientations, and the
    descriptor is scaled to unit length, clipped at .2 and scaled again. OpenCV rounds it to bytes (steps of 1/512);
    what is given here is of unit length again. Its centre is the pixel of its keypoint.
    """

    name = "sift"

    def __call__(self, image: Tensor) -> FeatureMap:
        cv2 = opencv(self.name)
        canvas, pixels = self.lay_out(image)
        grid, first = canvas.grid(SPACING), canvas.first_cell(SPACING)
        # A keypoint's size is the diameter that goes with its scale, and cells are three scales wide.
        size = 2 * CELL / 3
        keypoints = [
            cv2.KeyPoint(x * SPACING, y * SPACING, size, angle=0)
            for y in range(first, first + grid.height)
            for x in range(first, first + grid.width)
        ]
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        _, descriptors = cv2.SIFT_create(sigma=SMOOTHING).compute(grey, keypoints)
        return FeatureMap(
            unit_descriptors(descriptors.reshape(*grid.shape, -1)).to(self.device), canvas.image_size, grid
        )
