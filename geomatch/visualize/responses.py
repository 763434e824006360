"""The grid of the AnchorNet paper's figure: rows are photographs, columns channels, and where each responds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from geomatch.geometry import Grid
from geomatch.visualize.pairs import Colour, keypoint_colours
from geomatch.visualize.sheet import FAINT, INK, MARGIN, PAPER, fit_photograph, fitting, lettering, read_small

PICTURE = (160, 160)
"""Width and height, in pixels, that each photograph is fitted into."""
GAP = 6
CAPTION = 24
HEADING = 72

_ABOUT = "dot: where a filter responds most; colour: its response, from the median to the largest in its column"
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
    scales = response_scales(rows)
    column = max(row.photograph.width for row in rows) + GAP
    heights = [row.photograph.height + CAPTION for row in rows]
    width = (1 + len(channels)) * column - GAP
    sheet = Image.new("RGB", (width + 2 * MARGIN, HEADING + sum(heights) + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN + 14), title, fill=INK, font=lettering(20), anchor="ls")
    about = MARGIN + draw.textlength(title, font=lettering(20)) + 12
    draw.text((about, MARGIN + 14), _ABOUT, fill=FAINT, font=lettering(), anchor="ls")
    for number, (name, colour) in enumerate(zip(channels, colours, strict=True), 1):
        draw.rectangle((left := MARGIN + number * column, HEADING - 8, left + column - GAP - 1, HEADING - 5), colour)
        draw.text((left, HEADING - 28), name, fill=INK, font=lettering())
    top = HEADING
    for row, height in zip(rows, heights, strict=True):
        pictures = [
            with_peaks(row, colours),
            *(tinted(row, *each) for each in zip(range(len(colours)), colours, scales, strict=True)),
        ]
        for number, picture in enumerate(pictures):
            sheet.paste(picture, (MARGIN + number * column, top))
        draw.text(
            (MARGIN, top + row.photograph.height + 3), fitting(draw, row.name, column - GAP), FAINT, lettering(12)
        )
        top += height
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
