"""Correspondences seen: lines between the images, and the colours of positions carried from one to the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from geomatch.correspondence import Correspondence
from geomatch.visualize.sheet import fit_height, side_by_side, to_picture

HEIGHT = 400
LINES = 9
"""Along the longer side of the source, at most."""
_ANCHORS = np.array(
    [
        [[214, 40, 57], [244, 140, 50], [247, 214, 70]],
        [[150, 60, 190], [235, 110, 160], [130, 200, 80]],
        [[50, 70, 190], [60, 150, 230], [20, 170, 140]],
    ],
    np.float64,
)
"""Colours of the corners, of the middles of the sides, and of the centre."""
_GRID = 12
"""Lines of a grid along either axis, which show how it is bent."""
_LINE = 0.06
_STRENGTH = 0.6
_OVERSAMPLING = 3


def position_colours(x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.float64]:
    """The colours (..., 3) of positions between 0 and 1 along either axis."""
    from scipy import ndimage  # takes longer to load than a match to compute

    at = 2 * np.stack((y, x)).clip(0, 1).astype(np.float64)
    channels = np.moveaxis(_ANCHORS, -1, 0)
    return np.stack([ndimage.map_coordinates(channel, at, order=1) for channel in channels], axis=-1)


def grid_colours(x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.float64]:
    """The colours of positions, darker on the lines of a grid."""
    on_line = (np.abs(np.stack((x, y)) * _GRID % 1 - 0.5) > 0.5 - _LINE / 2).any(axis=0)
    return position_colours(x, y) * np.where(on_line, 0.3, 1)[..., None]


def draw_lines(source: Tensor, target: Tensor, match: Correspondence) -> Image.Image:
    """Source and target side by side, with lines between the most confident valid matches of all parts of the source.

    source, target: (3, H, W) uint8. Lines have the colour of their position in the source.
    """
    starts = chosen_points(match.confidence.cpu().numpy(), match.valid.cpu().numpy())
    ends = match.map_points(starts).positions
    pictures = [fit_height(to_picture(pixels), HEIGHT) for pixels in (source, target)]
    sheet, lefts, _ = side_by_side(pictures, 0)
    top = (sheet.height - HEIGHT) // 2
    large = sheet.resize((sheet.width * _OVERSAMPLING, sheet.height * _OVERSAMPLING), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(large)
    colours = position_colours(starts[:, 0] / source.shape[2], starts[:, 1] / source.shape[1])
    scales = HEIGHT / source.shape[1], HEIGHT / target.shape[1]
    for start, end, colour in zip(starts, ends, colours.round().astype(int).tolist(), strict=True):
        places = [
            tuple(
                float(_OVERSAMPLING * (value * scale + shift)) for value, shift in zip(point, (left, top), strict=True)
            )
            for point, scale, left in ((start, scales[0], lefts[0]), (end, scales[1], lefts[1]))
        ]
        draw.line([places[0], places[1]], fill=tuple(colour), width=_OVERSAMPLING + 1)
        for x, y in places:
            radius = 4 * _OVERSAMPLING
            box = (x - radius, y - radius, x + radius, y + radius)
            draw.ellipse(box, fill=tuple(colour), outline="white", width=_OVERSAMPLING)
    return large.resize(sheet.size, Image.Resampling.LANCZOS)


def chosen_points(confidence: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The most confident valid pixel (x, y) of each square of the source that has one, (K, 2): at most LINES of them
    along its longer side."""
    side = -(-max(valid.shape) // LINES)
    chosen = []
    for top in range(0, valid.shape[0], side):
        for left in range(0, valid.shape[1], side):
            part = np.where(valid, confidence, -1)[top : top + side, left : left + side]
            if part.max() >= 0:
                y, x = np.unravel_index(part.argmax(), part.shape)
                chosen.append((left + x, top + y))
    return np.array(chosen, np.float64).reshape(-1, 2)


def draw_positions(source: Tensor, target: Tensor, match: Correspondence) -> Image.Image:
    """Target and source side by side: the target below a coloured grid, and the source below the grid of its matches.

    source, target: (3, H, W) uint8. What is not valid stays grey.
    """
    height, width = target.shape[1:]
    y, x = np.indices((height, width), dtype=np.float32)
    painted = [_painted(target, grid_colours(x / width, y / height), np.ones((height, width), bool))]
    y, x = np.indices(match.source_size, dtype=np.float32)
    flow = match.flow.cpu().numpy()
    colours = grid_colours((x + flow[0]) / width, (y + flow[1]) / height)
    painted.append(_painted(source, colours, match.valid.cpu().numpy()))
    return side_by_side([fit_height(picture, HEIGHT) for picture in painted], 0)[0]


def _painted(image: Tensor, colours: NDArray[np.float64], where: NDArray[np.bool_]) -> Image.Image:
    grey = np.asarray(to_picture(image).convert("L"), np.float64)[..., None]
    mixed = (1 - _STRENGTH) * grey + _STRENGTH * np.where(where[..., None], colours, 235)
    return Image.fromarray(mixed.round().clip(0, 255).astype(np.uint8))
