"""One picture of a pair's keypoints: predicted and true positions on the target."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from geomatch.visualize.colours import Colour, keypoint_colours
from geomatch.visualize.sheet import fit_height, to_picture

HEIGHT = 300
"""Height of both photographs in CSS pixels of a page; the picture has DENSITY times as many pixels."""
DENSITY = 2
MARGIN = 10

_OVERSAMPLING = 2
_MANY = 60
"""With more points than this, markers are small and have no white edge."""
_NUMBERED = 20
"""Up to this many points, markers carry numbers."""
_PIXEL = DENSITY * _OVERSAMPLING
_CLEAR, _WHITE = (255, 255, 255, 0), (255, 255, 255, 255)
_CORRECT, _WRONG = (46, 204, 113, 255), (235, 33, 46, 255)


def draw_keypoint_matches(
    source: Tensor,
    target: Tensor,
    source_points: NDArray[np.float64],
    predicted: NDArray[np.float64],
    truth: NDArray[np.float64],
    correct: NDArray[np.bool_],
) -> Image.Image:
    """Source and target at one height on a transparent background, each keypoint in its own hue.

    source, target: (3, H, W) uint8. source_points: (K, 2), pixels of the source; predicted, truth: (K, 2), pixels of
    the target. correct: (K,). A dot is a prediction (clipped to the target's border), a ring is the truth; the line
    between them is green for correct points and red for the others.
    """
    photographs = [fit_height(to_picture(pixels), HEIGHT * _PIXEL) for pixels in (source, target)]
    lefts = MARGIN * _PIXEL, photographs[0].width + 2 * MARGIN * _PIXEL
    size = lefts[1] + photographs[1].width + MARGIN * _PIXEL, (HEIGHT + 2 * MARGIN) * _PIXEL
    sheet = Image.new("RGBA", size, _CLEAR)
    for left, photograph in zip(lefts, photographs, strict=True):
        sheet.paste(photograph, (left, MARGIN * _PIXEL))

    on_source, on_target = (
        _Markers(ImageDraw.Draw(sheet), left, HEIGHT * _PIXEL / pixels.shape[1], len(truth))
        for left, pixels in zip(lefts, (source, target), strict=True)
    )
    height, width = target.shape[1:]
    clipped = predicted.clip(0, (width - 1, height - 1))
    colours = keypoint_colours(len(truth))
    order = np.argsort(~correct, kind="stable")  # wrong ones on top
    for k in order:
        on_target.line(clipped[k], truth[k], _CORRECT if correct[k] else _WRONG)
    for k in order:
        on_target.ring(truth[k], colours[k])
    for k in order:
        on_source.dot(source_points[k], colours[k], str(k + 1))
        on_target.dot(clipped[k], colours[k], str(k + 1), bool(correct[k]))
    return sheet.reduce(_OVERSAMPLING)


class _Markers:
    """Draws on one photograph of the sheet, at positions in pixels of that photograph."""

    def __init__(self, draw: ImageDraw.ImageDraw, left: float, scale: float, count: int) -> None:
        self.draw, self.left, self.scale = draw, left, scale
        self.crowded, self.numbered = count > _MANY, count <= _NUMBERED
        self.radius = _PIXEL * (1.8 if self.crowded else 7 if self.numbered else 4.5)
        self.font = ImageFont.load_default(size=9.5 * _PIXEL)

    def line(self, start: NDArray[np.float64], end: NDArray[np.float64], colour: Colour) -> None:
        ends = self._position(start) + self._position(end)
        if not self.crowded:
            self.draw.line(ends, fill=_WHITE, width=4 * _PIXEL)
        self.draw.line(ends, fill=colour, width=round((0.9 if self.crowded else 2.4) * _PIXEL))

    def ring(self, point: NDArray[np.float64], colour: Colour) -> None:
        thickness = _PIXEL * (1 if self.crowded else 2.6)
        outside = self.radius + thickness + (0 if self.crowded else _PIXEL)
        if not self.crowded:
            self._circle(point, outside + 0.7 * _PIXEL, outline=_WHITE, width=round(thickness + 1.4 * _PIXEL))
        self._circle(point, outside, outline=colour, width=round(thickness))

    def dot(self, point: NDArray[np.float64], colour: Colour, number: str, correct: bool = True) -> None:
        if not self.crowded:
            if not correct:
                self._circle(point, self.radius + 3 * _PIXEL, fill=_WRONG)
            self._circle(point, self.radius + 1.2 * _PIXEL, fill=_WHITE)
        self._circle(point, self.radius, fill=colour)
        if self.numbered:
            ink = (0, 0, 0) if np.dot(colour[:3], (0.299, 0.587, 0.114)) > 120 else (255, 255, 255)
            self.draw.text(self._position(point), number, fill=ink, font=self.font, anchor="mm")

    def _position(self, point: NDArray[np.float64]) -> tuple[float, float]:
        x, y = (point + 0.5) * self.scale - 0.5
        return float(x) + self.left, float(y) + MARGIN * _PIXEL

    def _circle(self, centre: NDArray[np.float64], radius: float, **style: Any) -> None:
        x, y = self._position(centre)
        self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), **style)
