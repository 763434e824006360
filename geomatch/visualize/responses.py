"""One picture of where channels respond: rows are photographs, columns are channels.

Source: the figures of AnchorNet's filters (Novotny, Larlus and Vedaldi, CVPR 2017) and of introspection's channels
(Novotny, Albanie, Larlus and Vedaldi, CVPR 2018).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.visualize.colours import Colour, keypoint_colours
from geomatch.visualize.sheet import FAINT, INK, MARGIN, PAPER, Tile, caption_font, truncate_name
from geomatch.visualize.sigma import overlay_sigma, sigma_scale

PICTURE = (160, 160)
"""The largest a photograph is drawn: width and height in pixels."""
GAP = 6
CAPTION = 24
HEADING = 72

_EXPLANATION = "dot: where a channel responds most; colour: its response, from the median of its column to the largest"
_SIGMA_EXPLANATION = "; sigma: pale is sure"
_OPACITY = 0.9
"""Of a channel's colour over the grey photograph, at the strongest response."""
_LIGHTENING = 0.3
"""How far the grey photograph is blended with white, so that colour stands out."""
_DOT_RADIUS = 4.5
_OVERSAMPLING = 4
_SURE_SHARE = 0.25
"""Of an image's cells, those of smallest sigma, that `channels_of_sure_cells` looks at."""


def channels_of_sure_cells(features: Sequence[FeatureMap], count: int) -> list[int]:
    """Up to ``count`` channels of phi that respond most where sigma is small, in falling order (stable).

    A channel's score on an image is its mean response in the quarter of the cells with the smallest sigma, which lie
    on parts of objects, minus its mean response in all cells; scores are averaged over images. Ours: the strongest
    channels alone are those of sky and ground. Raises ValueError for features without sigma.
    """
    scores = torch.stack([_contrast(each) for each in features]).mean(dim=0)
    return scores.argsort(descending=True, stable=True)[:count].tolist()


def _contrast(features: FeatureMap) -> Tensor:
    """Each channel's mean response in sure cells minus that in all cells: (C,) float64."""
    if features.inverse_confidence is None:
        raise ValueError("these features have no sigma")
    responses = features.descriptors.relu().flatten(1).double().cpu()
    order = features.inverse_confidence.flatten().cpu().argsort(stable=True)
    sure = max(1, round(_SURE_SHARE * len(order)))
    return responses[:, order[:sure]].mean(dim=1) - responses.mean(dim=1)


def draw_response_sheet(
    title: str, channels: Sequence[str], rows: Sequence[Tile], sigmas: Sequence[Tile] = ()
) -> Image.Image:
    """A row for each photograph: itself with a dot where each channel responds most, then each channel's response.

    Responses are drawn in the channel's colour over the grey photograph. A channel has one scale on all
    photographs: transparent up to the median of its responses, full colour at the strongest. channels: names of the
    columns. rows: photographs with the channels' responses, >= 0. sigmas: the same photographs with their sigma, drawn
    beside them if given.
    """
    colours = keypoint_colours(len(channels))
    column = max(row.picture.width for row in rows)
    before = 2 if sigmas else 1
    lefts = [MARGIN + number * (column + GAP) for number in range(before + len(channels))]
    height = sum(row.picture.height + CAPTION for row in rows)
    sheet = Image.new("RGB", (lefts[-1] + column + MARGIN, HEADING + height + MARGIN - GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_heading(draw, title, _EXPLANATION + _SIGMA_EXPLANATION * bool(sigmas))
    if sigmas:
        draw.text((lefts[1], HEADING - 28), "sigma", fill=INK, font=caption_font())
    for left, name, colour in zip(lefts[before:], channels, colours, strict=True):
        draw.text((left, HEADING - 28), name, fill=INK, font=caption_font())
        draw.rectangle((left, HEADING - 8, left + column - 1, HEADING - 5), fill=colour)
    scales = response_scales(rows)
    shades = [overlay_sigma(tile, sigma_scale(sigmas)) for tile in sigmas]
    top = HEADING
    for index, row in enumerate(rows):
        tiles = [overlay_response(row, number, colours[number], scales[number]) for number in range(len(channels))]
        for left, picture in zip(lefts, [draw_peaks(row, colours), *shades[index : index + 1], *tiles], strict=True):
            sheet.paste(picture, (left + (column - picture.width) // 2, top))
        top += row.picture.height + CAPTION
        draw.text((MARGIN, top - CAPTION + 3), truncate_name(draw, row.name, column), fill=FAINT, font=caption_font())
    return sheet


def response_scales(rows: Sequence[Tile]) -> list[tuple[float, float]]:
    """For each channel the median and the largest of its responses on all photographs of a sheet."""
    values = np.concatenate([row.maps.reshape(len(row.maps), -1) for row in rows], axis=1)
    return [
        (float(middle), float(top)) for middle, top in zip(np.median(values, axis=1), values.max(axis=1), strict=True)
    ]


def overlay_response(row: Tile, channel: int, colour: Colour, scale: tuple[float, float]) -> Image.Image:
    """One channel's response in its colour over the grey photograph."""
    low, high = scale
    level = ((row.maps[channel] - low) / max(high - low, 1e-6)).clip(0, 1)
    grey = Image.blend(row.picture.convert("L").convert("RGB"), Image.new("RGB", row.picture.size, PAPER), _LIGHTENING)
    opacity = Image.fromarray((255 * _OPACITY * level).round().astype(np.uint8))
    return Image.composite(Image.new("RGB", grey.size, colour[:3]), grey, opacity)


def draw_peaks(row: Tile, colours: Sequence[Colour]) -> Image.Image:
    """The photograph with a dot of each channel's colour where that channel responds most."""
    size = row.picture.size
    dots = Image.new("RGBA", (size[0] * _OVERSAMPLING, size[1] * _OVERSAMPLING), (0, 0, 0, 0))
    draw = ImageDraw.Draw(dots)
    for responses, colour in zip(row.maps, colours, strict=True):
        y, x = np.unravel_index(responses.argmax(), responses.shape)
        centre = ((x + 0.5) * _OVERSAMPLING, (y + 0.5) * _OVERSAMPLING)
        draw.circle(centre, (_DOT_RADIUS + 1.2) * _OVERSAMPLING, fill=(255, 255, 255, 255))
        draw.circle(centre, _DOT_RADIUS * _OVERSAMPLING, fill=colour)
    return Image.alpha_composite(row.picture.convert("RGBA"), dots.reduce(_OVERSAMPLING)).convert("RGB")


def _draw_heading(draw: ImageDraw.ImageDraw, title: str, explanation: str) -> None:
    baseline = MARGIN + 14
    draw.text((MARGIN, baseline), title, fill=INK, font=caption_font(20), anchor="ls")
    after = MARGIN + draw.textlength(title, font=caption_font(20)) + 12
    draw.text((after, baseline), explanation, fill=FAINT, font=caption_font(), anchor="ls")
