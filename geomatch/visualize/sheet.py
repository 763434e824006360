"""What sheets of many small photographs share: fitting them, reading maps at their pixels, and lettering."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from geomatch.geometry.grid import Grid, read_cells, rescale_position
from geomatch.visualize.overview import to_picture

MARGIN = 16
PAPER, INK, FAINT = (255, 255, 255), (40, 44, 52), (120, 126, 136)


def fit_photograph(image: Tensor, within: tuple[int, int]) -> Image.Image:
    """An image (3, H, W) uint8 as large as fits into ``within`` (width, height), in pixels, not squashed."""
    picture = to_picture(image)
    scale = min(within[0] / picture.width, within[1] / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS)


def read_small(maps: Tensor, grid: Grid, image_size: tuple[int, int], small: tuple[int, int]) -> NDArray[np.float32]:
    """Maps (C, h, w) on a grid over an image of ``image_size`` (height, width), at the pixels of its small picture.

    small: (width, height) of the picture. Returns (C, height, width), read bilinearly.
    """
    x, y = (
        rescale_position(torch.arange(length, dtype=torch.float32), length, full)
        for length, full in zip(small, reversed(image_size), strict=True)
    )
    pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    return read_cells(maps.cpu()[None], grid.to_cells(pixels)[None])[0].numpy()


def fitting(draw: ImageDraw.ImageDraw, name: str, width: int) -> str:
    """The name, cut at its beginning if it is too long for ``width`` pixels."""
    cut = name
    while len(cut) > 1 and draw.textlength(cut if cut == name else "..." + cut, font=lettering()) > width:
        cut = cut[1:]
    return cut if cut == name else "..." + cut


def lettering(size: int = 13) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font of captions."""
    return ImageFont.load_default(size=size)
