"""Shared by all pictures of several photographs: sizes, captions, and maps read at a small picture's pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from geomatch.errors import printable
from geomatch.geometry.grid import Grid, read_cells, rescale_position

MARGIN = 16
PAPER, INK, FAINT = (255, 255, 255), (40, 44, 52), (120, 126, 136)


def to_picture(pixels: Tensor) -> Image.Image:
    """(3 or 4, H, W) uint8 to a Pillow image."""
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy())


def size_at_height(size: tuple[int, int], height: int) -> tuple[int, int]:
    """The (width, height) of a picture of ``size`` (width, height) scaled to a height."""
    return max(1, round(size[0] * height / size[1])), height


def fit_height(picture: Image.Image, height: int) -> Image.Image:
    return picture.resize(size_at_height(picture.size, height), Image.Resampling.LANCZOS)


def fit_photograph(image: Tensor, within: tuple[int, int]) -> Image.Image:
    """An image (3, H, W) uint8 scaled to fit into ``within`` (width, height); its aspect ratio is kept."""
    picture = to_picture(image)
    scale = min(within[0] / picture.width, within[1] / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class Tile:
    """A photograph on a sheet: its name, its small picture, and maps (C, height, width) at the picture's pixels."""

    name: str
    picture: Image.Image
    maps: NDArray[np.float32]

    @classmethod
    def read(cls, name: str, image: Tensor, maps: Tensor, grid: Grid, within: tuple[int, int]) -> Tile:
        """A tile of an image (3, H, W) uint8 scaled to fit into ``within``, with maps (C, h, w) on a grid over the
        image read bilinearly."""
        picture = fit_photograph(image, within)
        x, y = (
            rescale_position(torch.arange(length, dtype=torch.float32), length, full)
            for length, full in zip(picture.size, (image.shape[2], image.shape[1]), strict=True)
        )
        pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        return cls(name, picture, read_cells(maps.cpu()[None], grid.to_cells(pixels)[None])[0].numpy())


def side_by_side(panels: Sequence[Image.Image], caption_height: int) -> tuple[Image.Image, list[int], int]:
    """A sheet with panels in a row, their left edges, and the y at which captions below them begin."""
    lefts = [MARGIN]
    for panel in panels:
        lefts.append(lefts[-1] + panel.width + MARGIN)
    height = max(panel.height for panel in panels)
    sheet = Image.new("RGB", (lefts[-1], height + caption_height + 2 * MARGIN), PAPER)
    for left, panel in zip(lefts, panels, strict=False):
        sheet.paste(panel, (left, MARGIN))
    return sheet, lefts[:-1], MARGIN + height + 8


def truncate_name(draw: ImageDraw.ImageDraw, name: str, width: int) -> str:
    """A name on one line, cut at its beginning if it is longer than ``width`` pixels."""
    cut = name = printable(name)
    while len(cut) > 1 and draw.textlength(cut if cut == name else "..." + cut, font=caption_font()) > width:
        cut = cut[1:]
    return cut if cut == name else "..." + cut


@cache
def caption_font(size: int = 13) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
