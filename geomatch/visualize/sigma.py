"""One picture of many photographs, each beside its sigma (inverse confidence), on one scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.visualize.colours import confidence_picture
from geomatch.visualize.sheet import FAINT, INK, MARGIN, PAPER, Tile, caption_font, truncate_name

PICTURE = (220, 200)
"""The largest a photograph is drawn: width and height in pixels."""
CAPTION = 24
LEGEND = 56
MAX_COLUMNS = 4

_OPACITY = 0.7
"""Of the colour over the grey photograph."""
_SCALE_PERCENTILES = (1, 99)
"""Percentiles of all sigmas of a sheet at which its scale begins and ends."""


def sigma_tile(name: str, image: Tensor, features: FeatureMap, within: tuple[int, int] = PICTURE) -> Tile:
    """A tile of an image (3, H, W) uint8, scaled to fit into ``within`` (width, height), with its features' sigma.

    Raises ValueError for features without sigma.
    """
    if features.inverse_confidence is None:
        raise ValueError("these features have no sigma")
    return Tile.read(name, image, features.inverse_confidence[None], features.grid, within)


def draw_sigma_sheet(tiles: Sequence[Tile]) -> Image.Image:
    """Photographs in reading order, each to the left of its sigma, below the scale that they share.

    Sigma is drawn in colours over the grey photograph: pale is small (sure), dark is large.
    """
    scale = sigma_scale(tiles)
    columns = min(len(tiles), MAX_COLUMNS, math.ceil(math.sqrt(len(tiles))))
    width, height = 2 * PICTURE[0] + 2 * MARGIN, PICTURE[1] + CAPTION + MARGIN
    rows = math.ceil(len(tiles) / columns)
    sheet = Image.new("RGB", (columns * width + MARGIN, LEGEND + rows * height + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_legend(sheet, draw, scale)
    for number, tile in enumerate(tiles):
        left, top = MARGIN + number % columns * width, LEGEND + number // columns * height
        for shift, picture in ((0, tile.picture), (PICTURE[0] + MARGIN // 2, overlay_sigma(tile, scale))):
            sheet.paste(picture, (left + shift, top + PICTURE[1] - picture.height))
        mean = f"mean sigma {tile.maps.mean():.3f}"
        draw.text((left + PICTURE[0] + MARGIN // 2, top + PICTURE[1] + 5), mean, fill=FAINT, font=caption_font())
        name = truncate_name(draw, tile.name, PICTURE[0])
        draw.text((left, top + PICTURE[1] + 5), name, fill=INK, font=caption_font())
    return sheet


def sigma_scale(tiles: Sequence[Tile]) -> tuple[float, float]:
    """The sigmas at the pale and the dark end of a sheet's scale: its 1st and 99th percentile."""
    low, high = np.percentile(np.concatenate([tile.maps.ravel() for tile in tiles]), _SCALE_PERCENTILES)
    return float(low), float(high)


def overlay_sigma(tile: Tile, scale: tuple[float, float]) -> Image.Image:
    """The tile's sigma in colours over its grey photograph."""
    low, high = scale
    level = ((high - tile.maps[0]) / max(high - low, 1e-6)).clip(0, 1)
    grey = tile.picture.convert("L").convert("RGB")
    return Image.blend(grey, confidence_picture(level), _OPACITY)


def _draw_legend(sheet: Image.Image, draw: ImageDraw.ImageDraw, scale: tuple[float, float]) -> None:
    bar = confidence_picture(np.tile(np.linspace(1, 0, PICTURE[0], dtype=np.float32), (14, 1)))
    sheet.paste(bar, (MARGIN, MARGIN))
    draw.rectangle((MARGIN, MARGIN, MARGIN + bar.width - 1, MARGIN + bar.height - 1), outline=FAINT)
    below = MARGIN + bar.height + 3
    draw.text((MARGIN, below), f"sigma {scale[0]:.3f}: sure", fill=INK, font=caption_font())
    draw.text((MARGIN + bar.width, below), f"{scale[1]:.3f}: unsure", fill=INK, font=caption_font(), anchor="ra")
