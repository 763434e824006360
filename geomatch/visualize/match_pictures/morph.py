"""A source image that turns into its target: both are warped part of the way towards each other and dissolved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy import ndimage
from torch import Tensor

from geomatch.correspondence import Correspondence
from geomatch.geometry.inverse_flow import invert_flow

_STEP = 4
"""Pixels from one to the next at which a smooth flow is turned round."""
_REACHED = 1.0
"""Steps: a place is reached by a flow that comes this near."""
_LEAST_WEIGHT = 0.05
"""Of a pixel without confidence, beside one that is certain."""

Positions = NDArray[np.float64]


def on_canvas(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A picture scaled to fit into ``size`` (width, height), before its own blurred colours."""
    whole, cover = (pick(size[axis] / picture.size[axis] for axis in (0, 1)) for pick in (min, max))
    large, small = ([max(1, round(side * scale)) for side in picture.size] for scale in (cover, whole))
    back = picture.resize((max(large[0], size[0]), max(large[1], size[1])), Image.Resampling.BICUBIC)
    left, top = (back.width - size[0]) // 2, (back.height - size[1]) // 2
    canvas = back.crop((left, top, left + size[0], top + size[1])).filter(ImageFilter.GaussianBlur(max(size) / 24))
    scaled = picture.resize((small[0], small[1]), Image.Resampling.LANCZOS)
    canvas.paste(scaled, ((size[0] - scaled.width) // 2, (size[1] - scaled.height) // 2))
    return canvas


def eased(count: int) -> list[float]:
    """``count`` shares from 0 to 1 that start and end slowly.

    >>> eased(3)
    [0.0, 0.5, 1.0]
    """
    shares = np.linspace(0, 1, count)
    return [float(share) for share in shares * shares * (3 - 2 * shares)]


def morph_frames(
    images: tuple[Tensor, Tensor], matches: tuple[Correspondence, Correspondence], shares: Sequence[float]
) -> Iterator[Image.Image]:
    """The pictures in between two images, one for each share of the way, 0 being the source and 1 the target.

    Every pixel is the mean of both images, warped to where their contents are by then, weighted by the share and by the
    confidence of their matches.

    Args:
        images: source and target, (3, H, W) uint8 of one size.
        matches: smooth ones, from source to target, and from target to source.
    """
    for share in shares:
        total, weights = 0.0, 0.0
        for image, match, way, part in zip(images, matches, (share, 1 - share), (1 - share, share), strict=True):
            if part == 0:
                continue
            read = _warped_along(image, match, way)
            weight = part * (_LEAST_WEIGHT + read[3])
            total, weights = total + weight * read[:3], weights + weight
        pixels = (total / weights).round().clip(0, 255).astype(np.uint8)  # type: ignore[attr-defined]
        yield Image.fromarray(np.moveaxis(pixels, 0, -1))


def _warped_along(image: Tensor, match: Correspondence, way: float) -> NDArray[np.float32]:
    """An image's colours and its confidence, (4, H, W), after its pixels have gone a part of their way."""
    values = torch.cat((image.cpu().float(), match.confidence.cpu().float()[None]))
    if way == 0:
        return values.numpy()
    height, width = image.shape[1:]
    x, y = _origins(match.flow.cpu().numpy() * np.float32(way), match.confidence.cpu().numpy())
    grid = torch.from_numpy(np.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), axis=-1)).float()
    return F.grid_sample(values[None], grid[None], padding_mode="reflection", align_corners=False)[0].numpy()


def _origins(flow: NDArray[np.float32], confidence: NDArray[np.float32]) -> Positions:
    """Where the pixels (2, H, W) of an image come from that a smooth flow (2, H, W) has moved.

    Places that nothing has moved to take the displacement of the nearest that something has.
    """
    height, width = flow.shape[1:]
    size = -(-height // _STEP), -(-width // _STEP)
    scale = np.array([width / size[1], height / size[0]])
    small = np.stack([_resized(axis, size) for axis in flow]) / scale[:, None, None]
    found, missed = invert_flow(small.astype(np.float32), _resized(confidence, size), size)
    moved = found - np.indices(size)[::-1]
    nearest = ndimage.distance_transform_edt(missed > _REACHED, return_distances=False, return_indices=True)
    calm = [ndimage.gaussian_filter(axis[tuple(nearest)], 1.0, mode="nearest") for axis in moved]
    full = np.stack([_resized(axis.astype(np.float32), (height, width)) for axis in calm]) * scale[:, None, None]
    return np.asarray(full + np.indices((height, width))[::-1], np.float64)


def _resized(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    resampling = Image.Resampling.BOX if size[0] < values.shape[0] else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(values).resize(size[::-1], resampling), dtype=np.float32)
