"""The grid of the AnchorNet paper's figure: rows are photographs, columns channels, and where each responds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from geomatch.geometry.grid import Grid
from geomatch.visualize.pairs import Colour, keypoint_colours
from geomatch.visualize.sheet import FAINT, INK, MARGIN, PAPER, fit_photograph, fitting, lettering, read_small

PICTURE = (160, 160)
"""Width and height, in pixels, that each photograph is fitted into."""
GAP = 6
CAPTION = 24
HEADING = 72

_ABOUT = "dot: where a filter responds most; colour: its response, from the median of its column to the largest"
_OPAQUE = 0.9
"""How much of a channel's colour, at its strongest, hides the grey photograph below it."""
_LIGHT = 0.3
"""How far the grey photograph is lightened, so that colour stands out from it."""
_DOT = 4.5
_OVERSAMPLING = 4


@dataclass(frozen=True)
class ResponseRow:
    """A photograph of the sheet, small: its name, its colours, and the channels' responses (C, height, width), >= 0,
    at their pixels."""

    name: str
    photograph: Image.Image
    responses: NDArray[np.float32]

    @classmethod
    def of(cls, name: str, image: Tensor, maps: Tensor, grid: Grid) -> ResponseRow:
        """image: (3, H, W) uint8, and maps (C, h, w) on a grid over it."""
        photograph = fit_photograph(image, PICTURE)
        return cls(name, photograph, read_small(maps, grid, (image.shape[1], image.shape[2]), photograph.size))


def draw_response_sheet(title: str, channels: Sequence[str], rows: Sequence[ResponseRow]) -> Image.Image:
    """A row a photograph: first itself with a dot where each channel responds most, then each channel's response, in
    the channel's colour, over the grey photograph.

    channels: what the columns are called. A channel has one scale on all photographs: clear up to the median of its
    responses, full colour at the strongest of them.
    """
    colours = keypoint_colours(len(channels))
    column = max(row.photograph.width for row in rows)
    lefts = [MARGIN + number * (column + GAP) for number in range(1 + len(channels))]
    height = sum(row.photograph.height + CAPTION for row in rows)
    sheet = Image.new("RGB", (lefts[-1] + column + MARGIN, HEADING + height + MARGIN - GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_heading(draw, title)
    for left, name, colour in zip(lefts[1:], channels, colours, strict=True):
        draw.text((left, HEADING - 28), name, fill=INK, font=lettering())
        draw.rectangle((left, HEADING - 8, left + column - 1, HEADING - 5), fill=colour)
    scales = response_scales(rows)
    top = HEADING
    for row in rows:
        tiles = [tinted(row, number, colours[number], scales[number]) for number in range(len(channels))]
        for left, picture in zip(lefts, [with_peaks(row, colours), *tiles], strict=True):
            sheet.paste(picture, (left + (column - picture.width) // 2, top))
        top += row.photograph.height + CAPTION
        draw.text((MARGIN, top - CAPTION + 3), fitting(draw, row.name, column), fill=FAINT, font=lettering())
    return sheet


def response_scales(rows: Sequence[ResponseRow]) -> list[tuple[float, float]]:
    """For each channel the median and the largest of its responses on all photographs of a sheet."""
    values = np.concatenate([row.responses.reshape(len(row.responses), -1) for row in rows], axis=1)
    return [
        (float(middle), float(top)) for middle, top in zip(np.median(values, axis=1), values.max(axis=1), strict=True)
    ]


def tinted(row: ResponseRow, channel: int, colour: Colour, scale: tuple[float, float]) -> Image.Image:
    """A channel's response in its colour over the grey photograph."""
    low, high = scale
    level = ((row.responses[channel] - low) / max(high - low, 1e-6)).clip(0, 1)
    grey = Image.blend(row.photograph.convert("L").convert("RGB"), Image.new("RGB", row.photograph.size, PAPER), _LIGHT)
    veil = Image.fromarray((255 * _OPAQUE * level).round().astype(np.uint8))
    return Image.composite(Image.new("RGB", grey.size, colour[:3]), grey, veil)


def with_peaks(row: ResponseRow, colours: Sequence[Colour]) -> Image.Image:
    """The photograph with a dot, in each channel's colour, where the channel responds most."""
    size = row.photograph.size
    dots = Image.new("RGBA", (size[0] * _OVERSAMPLING, size[1] * _OVERSAMPLING), (0, 0, 0, 0))
    draw = ImageDraw.Draw(dots)
    for responses, colour in zip(row.responses, colours, strict=True):
        y, x = np.unravel_index(responses.argmax(), responses.shape)
        centre = ((x + 0.5) * _OVERSAMPLING, (y + 0.5) * _OVERSAMPLING)
        draw.circle(centre, (_DOT + 1.2) * _OVERSAMPLING, fill=(255, 255, 255, 255))
        draw.circle(centre, _DOT * _OVERSAMPLING, fill=colour)
    return Image.alpha_composite(row.photograph.convert("RGBA"), dots.reduce(_OVERSAMPLING)).convert("RGB")


def _draw_heading(draw: ImageDraw.ImageDraw, title: str) -> None:
    baseline = MARGIN + 14
    draw.text((MARGIN, baseline), title, fill=INK, font=lettering(20), anchor="ls")
    after = MARGIN + draw.textlength(title, font=lettering(20)) + 12
    draw.text((after, baseline), _ABOUT, fill=FAINT, font=lettering(), anchor="ls")
