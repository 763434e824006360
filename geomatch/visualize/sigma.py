"""One picture of how sure features are of many photographs: each beside its sigma, on one scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.visualize.overview import confidence_picture
from geomatch.visualize.sheet import FAINT, INK, MARGIN, PAPER, fit_photograph, fitting, lettering, read_small

PICTURE = (220, 200)
"""Width and height, in pixels, that each photograph is fitted into."""
CAPTION = 24
LEGEND = 56
COLUMNS_AT_MOST = 4

_VEIL = 0.7
"""How much of the colour, and how little of the grey photograph below it, is seen."""
_ENDS = (1, 99)
"""Percentiles of all sigmas of a sheet at which its scale begins and ends."""


@dataclass(frozen=True)
class SigmaTile:
    """A photograph of the sheet, small: its name, its colours, and sigma (height, width) at their pixels."""

    name: str
    photograph: Image.Image
    sigma: NDArray[np.float32]

    @classmethod
    def of(cls, name: str, image: Tensor, features: FeatureMap) -> SigmaTile:
        """image: (3, H, W) uint8, which ``features`` were computed from. Raises ValueError if they know no sigma."""
        if features.inverse_confidence is None:
            raise ValueError("these features know no sigma")
        photograph = fit_photograph(image, PICTURE)
        maps = features.inverse_confidence[None]
        return cls(name, photograph, read_small(maps, features.grid, features.image_size, photograph.size)[0])


def draw_sigma_sheet(tiles: Sequence[SigmaTile]) -> Image.Image:
    """Photographs in reading order, each left of its sigma in colours over its greys, below the scale they share.

    Pale stands for a small sigma: sure; dark for a large one.
    """
    scale = sigma_scale(tiles)
    columns = min(len(tiles), COLUMNS_AT_MOST, math.ceil(math.sqrt(len(tiles))))
    width, height = 2 * PICTURE[0] + 2 * MARGIN, PICTURE[1] + CAPTION + MARGIN
    rows = math.ceil(len(tiles) / columns)
    sheet = Image.new("RGB", (columns * width + MARGIN, LEGEND + rows * height + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_legend(sheet, draw, scale)
    for number, tile in enumerate(tiles):
        left, top = MARGIN + number % columns * width, LEGEND + number // columns * height
        for shift, picture in ((0, tile.photograph), (PICTURE[0] + MARGIN // 2, veiled(tile, scale))):
            sheet.paste(picture, (left + shift, top + PICTURE[1] - picture.height))
        mean = f"mean sigma {tile.sigma.mean():.3f}"
        draw.text((left + PICTURE[0] + MARGIN // 2, top + PICTURE[1] + 5), mean, fill=FAINT, font=lettering())
        draw.text((left, top + PICTURE[1] + 5), fitting(draw, tile.name, PICTURE[0]), fill=INK, font=lettering())
    return sheet


def sigma_scale(tiles: Sequence[SigmaTile]) -> tuple[float, float]:
    """The sigmas at the pale and the dark end of a sheet's scale, the rarest at both ends left out."""
    low, high = np.percentile(np.concatenate([tile.sigma.ravel() for tile in tiles]), _ENDS)
    return float(low), float(high)


def veiled(tile: SigmaTile, scale: tuple[float, float]) -> Image.Image:
    """The tile's sigma in colours, its photograph shining through in grey."""
    low, high = scale
    sureness = ((high - tile.sigma) / max(high - low, 1e-6)).clip(0, 1)
    grey = tile.photograph.convert("L").convert("RGB")
    return Image.blend(grey, confidence_picture(sureness), _VEIL)


def _draw_legend(sheet: Image.Image, draw: ImageDraw.ImageDraw, scale: tuple[float, float]) -> None:
    bar = confidence_picture(np.tile(np.linspace(1, 0, PICTURE[0], dtype=np.float32), (14, 1)))
    sheet.paste(bar, (MARGIN, MARGIN))
    draw.rectangle((MARGIN, MARGIN, MARGIN + bar.width - 1, MARGIN + bar.height - 1), outline=FAINT)
    below = MARGIN + bar.height + 3
    draw.text((MARGIN, below), f"sigma {scale[0]:.3f}: sure", fill=INK, font=lettering())
    draw.text((MARGIN + bar.width, below), f"{scale[1]:.3f}: unsure", fill=INK, font=lettering(), anchor="ra")
