"""Pictures of transferred annotations: each image beside the reference."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from geomatch.annotations import AnnotatedImage, Box, Category, Instance, Keypoints, Region, Visibility
from geomatch.geometry.grid import rescale_position
from geomatch.visualize.colours import Colour, keypoint_colours
from geomatch.visualize.sheet import FAINT, INK, caption_font, fit_photograph, side_by_side, truncate_name

PANEL = (560, 460)
"""The largest a photograph is drawn: width and height in pixels."""
_CAPTION = 26
_OVERSAMPLING = 2
_MASK_OPACITY = np.uint8(115)
"""Of 255."""
_RADIUS = 6
_WHITE = (255, 255, 255, 255)


def draw_review(
    reference: tuple[Tensor, AnnotatedImage],
    transferred: tuple[Tensor, AnnotatedImage],
    categories: Sequence[Category] = (),
    note: str = "",
) -> Image.Image:
    """The annotations of the reference and of an image side by side, in the same colours.

    reference, transferred: pixels (3, H, W) uint8 and annotations. categories: their skeletons are drawn. note: a line
    below the image. A guessed point is a ring; a guessed box has a broken outline.
    """
    panels = [_draw(*each, categories) for each in (reference, transferred)]
    sheet, lefts, below = side_by_side(panels, _CAPTION)
    draw = ImageDraw.Draw(sheet)
    names, notes = (reference[1].name, transferred[1].name), ("reference", note)
    for left, panel, name, each in zip(lefts, panels, names, notes, strict=True):
        offset = draw.textlength(each, font=caption_font()) + 12
        draw.text((left, below), each, fill=INK, font=caption_font())
        shortened = truncate_name(draw, name, int(panel.width - offset))
        draw.text((left + offset, below), shortened, fill=FAINT, font=caption_font())
    return sheet


def _draw(pixels: Tensor, image: AnnotatedImage, categories: Sequence[Category]) -> Image.Image:
    photograph = fit_photograph(pixels, PANEL)
    size = photograph.width * _OVERSAMPLING, photograph.height * _OVERSAMPLING
    large = photograph.resize(size, Image.Resampling.NEAREST)
    _overlay_masks(large, image.instances)
    pen = _Pen(ImageDraw.Draw(large), image.size, (large.height, large.width))
    for instance, colour in zip(image.instances, _colours(image.instances), strict=True):
        if isinstance(instance.shape, Keypoints):
            skeleton = next((each.skeleton for each in categories if each.name == instance.label), ())
            pen.keypoints(instance.shape, skeleton)
        elif not isinstance(instance.shape, Region):
            pen.box(instance.shape, colour, broken=instance.visibility is Visibility.guessed)
    return large.reduce(_OVERSAMPLING)


def _colours(instances: Sequence[Instance]) -> list[Colour]:
    """One for each instance, the same on every image."""
    colours = keypoint_colours(max([8, *(instance.number for instance in instances)]))
    return [colours[instance.number - 1] for instance in instances]


def _overlay_masks(picture: Image.Image, instances: Sequence[Instance]) -> None:
    """Draw masks over a picture in their colours, opaque at their edges."""
    for instance, colour in zip(instances, _colours(instances), strict=True):
        if not isinstance(instance.shape, Region):
            continue
        mask = np.asarray(Image.fromarray(instance.shape.mask).resize(picture.size, Image.Resampling.NEAREST))
        inner = mask.copy()
        for axis in (0, 1):
            for shift in (-2, 2):
                inner &= np.roll(mask, shift, axis=axis)
        opacity = np.where(mask, _MASK_OPACITY, np.uint8(0))
        opacity[mask & ~inner] = 255
        picture.paste(colour[:3], (0, 0), Image.fromarray(opacity))


class _Pen:
    """Draws on a picture of size ``drawn`` (height, width), at positions in pixels of an image of size ``size``."""

    def __init__(self, draw: ImageDraw.ImageDraw, size: tuple[int, int], drawn: tuple[int, int]) -> None:
        self._draw, self._size, self._drawn = draw, size, drawn

    def keypoints(self, shape: Keypoints, skeleton: Sequence[tuple[int, int]]) -> None:
        positions = [self._position(float(x), float(y)) for x, y in shape.points]
        for start, end in skeleton:
            if shape.present[start - 1] and shape.present[end - 1]:
                self._draw.line((*positions[start - 1], *positions[end - 1]), fill=_WHITE, width=2 * _OVERSAMPLING)
        for k, colour in enumerate(keypoint_colours(len(positions))):
            if shape.present[k]:
                self._dot(*positions[k], colour, hollow=shape.visibility[k] == Visibility.guessed)

    def box(self, box: Box, colour: Colour, *, broken: bool) -> None:
        (left, top), (right, bottom) = self._position(*box[:2]), self._position(*box[2:])
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        for ink, width in ((_WHITE, 5), (colour, 3)):
            for start, end in pairwise(corners):
                self._line(start, end, ink, width * _OVERSAMPLING, broken=broken)

    def _line(
        self, start: tuple[float, float], end: tuple[float, float], ink: Colour, width: int, *, broken: bool
    ) -> None:
        dashes = max(1, int(np.hypot(end[0] - start[0], end[1] - start[1]) / (12 * _OVERSAMPLING))) if broken else 1
        stops = np.linspace(start, end, 2 * dashes + 1 if broken else 2)
        for k in range(0, len(stops) - 1, 2):
            self._draw.line((*stops[k], *stops[k + 1]), fill=ink, width=width)

    def _dot(self, x: float, y: float, colour: Colour, *, hollow: bool) -> None:
        for radius, thickness, ink in ((_RADIUS + 1.5, 5.5, _WHITE), (_RADIUS, 2.5, colour)):
            extent = radius * _OVERSAMPLING
            around = (x - extent, y - extent, x + extent, y + extent)
            if hollow:
                self._draw.ellipse(around, outline=ink, width=round(thickness * _OVERSAMPLING))
            else:
                self._draw.ellipse(around, fill=ink)

    def _position(self, x: float, y: float) -> tuple[float, float]:
        (height, width), (drawn_height, drawn_width) = self._size, self._drawn
        return rescale_position(x, width, drawn_width), rescale_position(y, height, drawn_height)
