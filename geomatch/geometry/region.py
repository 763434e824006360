"""The region of an image in which most pixels have a property, with a calm outline along the image's edges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Values = NDArray[np.float32]

_SIDE = 512
"""Pixels along the longer side at which the region is found; its outline has no finer detail."""
_REACH = 0.025
"""Of the filter's window to either side, as a share of the longer side."""
_EVENNESS = 2e-3
"""Variance of brightness, in [0, 1], below which the filter takes a window for even: epsilon."""
_SMALLEST = 0.004
"""Share of the image that an island or a hole needs to stay."""


def calm_region(pixels: NDArray[np.bool_], image: NDArray[np.uint8] | None = None) -> NDArray[np.bool_]:
    """A region (H, W) without small islands and holes, in which most ``pixels`` (H, W) are true.

    The share of true pixels around each is averaged by a guided filter, so that the outline follows edges of the
    image. Source: He, Sun and Tang, Guided Image Filtering, ECCV 2010.

    Args:
        image: (3, H, W), the guide; without one a plain average is taken.
    """
    height, width = pixels.shape
    scale = min(1.0, _SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    share = _resized(pixels.astype(np.float32), size, Image.Resampling.BOX)
    window = 2 * max(1, round(_REACH * max(size))) + 1
    if image is None:
        soft = ndimage.uniform_filter(share, window)
    else:
        guide = _resized((image.astype(np.float32) / 255).mean(axis=0), size, Image.Resampling.BOX)
        soft = guided_filter(guide, share, window, _EVENNESS)
    region = _without_small_parts(soft > 0.5)
    soft = np.where(region, np.maximum(soft, 0.6), np.minimum(soft, 0.4)).astype(np.float32)
    return np.asarray(_resized(soft, (width, height), Image.Resampling.BILINEAR) > 0.5)


def guided_filter(guide: Values, values: Values, window: int, epsilon: float) -> Values:
    """Values (H, W) as the locally linear function of a guide (H, W) that is nearest to them, averaged over windows."""

    def mean(maps: NDArray[np.floating]) -> Values:
        return np.asarray(ndimage.uniform_filter(maps, window), dtype=np.float32)

    mean_guide, mean_values = mean(guide), mean(values)
    variance = mean(guide * guide) - mean_guide**2
    slope = (mean(guide * values) - mean_guide * mean_values) / (variance.clip(0) + epsilon)
    return mean(slope) * guide + mean(mean_values - slope * mean_guide)


def feather(region: NDArray[np.bool_], width: int) -> Values:
    """Opacity (H, W) in [0, 1]: 0 outside a region, rising to 1 about ``width`` pixels inside; the border of the image
    is no edge."""
    if width < 1:
        return region.astype(np.float32)
    share = region.astype(np.float32)
    for _ in range(2):
        share = ndimage.uniform_filter(share, width + 1, mode="nearest")
    return np.asarray((2 * share - 1).clip(0, 1) * region, dtype=np.float32)


def _without_small_parts(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The region without small islands, and then without small holes."""
    for value in (True, False):
        parts, count = ndimage.label(region == value)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)
        small = sizes < _SMALLEST * region.size
        small[0] = False
        region = np.where(small[parts], not value, region)
    return region


def _resized(values: Values, size: tuple[int, int], resampling: Image.Resampling) -> Values:
    return np.asarray(Image.fromarray(values).resize(size, resampling), dtype=np.float32)
