"""The mean of several images of one kind of object, in the frame of one of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

_LEAST_WEIGHT = 0.02
"""Of a pixel without confidence, beside one that is certain."""
_BLUR = 0.02
"""Standard deviation of the Gaussian that blurs confidence, as a share of the reference's longer side."""
_ENOUGH = 1 / 3
"""Share of the images that reach a pixel where the picture is opaque."""
_STEADIEST = 4.0
"""An image's colours are stretched, or compressed, to those of the reference by at most this factor."""

Values = NDArray[np.float32]


class AveragePicture:
    """A picture to which images are added, each warped onto the reference.

    Pixel p of the picture is the mean of the reference and the N warped images c_i,

        sum_i w_i(p) c_i(p) / sum_i w_i(p),    w_i = opacity_i (least + confidence_i^2),

    in which the reference has the mean weight of the others. Confidence is blurred, so that no seams show. Each image's
    colours have been brought to the mean and the deviation of the reference's where it is warped to, so that the light
    of no photograph prevails. The picture is transparent where few images reach: its opacity is the mean of theirs,
    divided by the share of them that is enough.
    """

    def __init__(self, reference: Tensor) -> None:
        """reference: (3, H, W) uint8."""
        self._reference = reference.cpu().numpy().astype(np.float32)
        self._total = np.zeros_like(self._reference)
        self._weights, self._opacity = (np.zeros(self._reference.shape[1:], np.float32) for _ in range(2))
        self._count = 0

    def add(self, warped: Tensor, confidence: Tensor) -> float:
        """Add an image that is warped onto the reference, (4, H, W) uint8 RGBA, by matches of this confidence (H, W).

        Returns the share of the reference that it reaches.
        """
        *colours, opacity = warped.cpu().numpy().astype(np.float32)
        opacity = opacity / 255
        sure = ndimage.gaussian_filter(confidence.cpu().numpy(), _BLUR * max(opacity.shape))
        weights = opacity * (_LEAST_WEIGHT + sure**2)
        self._total += weights * _in_light_of(self._reference, np.stack(colours), weights)
        self._weights += weights
        self._opacity += opacity
        self._count += 1
        return float(opacity.mean())

    def pixels(self) -> NDArray[np.uint8]:
        """The picture so far, (H, W, 4) uint8 RGBA."""
        own = self._weights / max(self._count, 1)
        weights = self._weights + own
        mean = (self._total + own * self._reference) / np.maximum(weights, 1e-9)
        opacity = np.minimum(self._opacity / (max(self._count, 1) * _ENOUGH), 1)
        colours = np.where(weights > 0, mean, 255)
        return np.concatenate((colours, 255 * opacity[None])).round().clip(0, 255).astype(np.uint8).transpose(1, 2, 0)


def _in_light_of(reference: Values, image: Values, weights: Values) -> Values:
    """Colours (3, H, W) with the weighted mean of each channel and the deviation of brightness of the reference's."""
    total = float(weights.sum())
    if total <= 0:
        return image
    share = weights / total
    means = [(share * each).sum(axis=(1, 2), keepdims=True) for each in (reference, image)]
    spread = [
        float(np.sqrt((share * ((each - mean).mean(axis=0)) ** 2).sum()))
        for each, mean in zip((reference, image), means, strict=True)
    ]
    factor = float(np.clip(spread[0] / max(spread[1], 1e-6), 1 / _STEADIEST, _STEADIEST))
    return np.asarray(means[0] + factor * (image - means[1]), np.float32)
