"""Dense SIFT (Lowe, IJCV 2004; Liu et al., PAMI 2011): upright descriptors at every point of a lattice."""

from __future__ import annotations

from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.features.handcrafted.gradients import SPACING, GradientFeatures
from geomatch.runtime.optional import import_opencv

CELL = 4
"""Side of each of a descriptor's 4 x 4 cells, in pixels of the resized image."""

SMOOTHING = 4 / 3
"""Standard deviation, in pixels, of the Gaussian that smooths the image: the scale of a keypoint, a third of CELL."""


class SiftFeatures(GradientFeatures):
    """OpenCV's SIFT of the grey image: 4 x 4 cells of 4 pixels, 8 orientations, 128 numbers.

    Gradients are weighted by a Gaussian of two cells and interpolated linearly among cells and orientations. The
    descriptor is scaled to unit length, clipped at 0.2 and scaled again. OpenCV rounds it to bytes (steps of 1/512);
    here it is scaled to unit length once more. Its centre is the pixel of its keypoint.
    """

    name = "sift"

    def __call__(self, image: Tensor) -> FeatureMap:
        cv2 = import_opencv(self.name)
        canvas, pixels = self.draw(image)
        grid, first = canvas.grid(SPACING), canvas.first_cell(SPACING)
        # The size of a keypoint is twice its scale, and cells are three scales wide.
        size = 2 * CELL / 3
        keypoints = [
            cv2.KeyPoint(x * SPACING, y * SPACING, size, angle=0)
            for y in range(first, first + grid.height)
            for x in range(first, first + grid.width)
        ]
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        _, descriptors = cv2.SIFT_create(sigma=SMOOTHING).compute(grey, keypoints)
        histograms = descriptors.reshape(*grid.shape, -1)
        return self.feature_map(histograms, canvas, grid)


load = SiftFeatures.load
