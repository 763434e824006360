"""One picture of a match: source, target, warp, confidence and flow side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from geomatch.correspondence import Correspondence
from geomatch.visualize.flow_colours import colour_flow

PANEL_HEIGHT = 320
_MARGIN = 16
_CAPTION = 30
_PAPER, _INK = (255, 255, 255), (40, 44, 52)
_CHECKER = ((238, 238, 240), (222, 222, 226))
# Dark blue through teal to pale yellow: lightness rises evenly, so it also reads in grey.
CONFIDENCE_RAMP = ((29, 22, 66), (47, 72, 130), (38, 130, 142), (94, 188, 118), (251, 240, 160))


def draw_overview(source: Tensor, target: Tensor, warped: Tensor, correspondence: Correspondence) -> Image.Image:
    """source, target: (3, H, W) uint8; warped: (4, H, W) uint8 from `pull`, transparent where invalid."""
    confidence = correspondence.confidence.cpu().numpy()
    panels = [
        ("source", _fit(to_picture(source))),
        ("target", _fit(to_picture(target))),
        ("target, warped to source", _over_checker(_fit(to_picture(warped)))),
        (f"confidence, mean {confidence.mean():.2f}", confidence_picture(_shrink(confidence))),
        ("flow", flow_picture(np.stack([_shrink(axis) for axis in correspondence.flow.cpu().numpy()]))),
    ]
    return _side_by_side(panels)


def to_picture(pixels: Tensor) -> Image.Image:
    """(3 or 4, H, W) uint8 to a Pillow image."""
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy())


def confidence_picture(confidence: NDArray[np.float32]) -> Image.Image:
    """(H, W) in [0, 1] to colours, dark (0) to pale yellow (1)."""
    ramp = np.array(CONFIDENCE_RAMP, dtype=np.float64)
    stops = np.linspace(0, 1, len(ramp))
    colours = np.stack([np.interp(confidence, stops, ramp[:, channel]) for channel in range(3)], axis=-1)
    return Image.fromarray(colours.round().astype(np.uint8))


def flow_picture(flow: NDArray[np.float32]) -> Image.Image:
    """(2, H, W) to the Middlebury benchmark's colours: the hue is the direction, full at the longest flow."""
    return Image.fromarray(colour_flow(flow, float(np.hypot(*flow).max())))


def _side_by_side(panels: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    widths = [panel.width for _, panel in panels]
    sheet = Image.new("RGB", (sum(widths) + _MARGIN * (len(panels) + 1), PANEL_HEIGHT + _CAPTION + 2 * _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=15)
    left = _MARGIN
    for caption, panel in panels:
        sheet.paste(panel, (left, _MARGIN))
        draw.text((left, _MARGIN + PANEL_HEIGHT + 8), caption, fill=_INK, font=font)
        left += panel.width + _MARGIN
    return sheet


def _fit(picture: Image.Image) -> Image.Image:
    return picture.resize(_panel_size(picture.width, picture.height), Image.Resampling.LANCZOS)


def _shrink(values: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = values.shape
    resized = Image.fromarray(values).resize(_panel_size(width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.float32)


def _panel_size(width: int, height: int) -> tuple[int, int]:
    return max(1, round(width * PANEL_HEIGHT / height)), PANEL_HEIGHT


def _over_checker(picture: Image.Image) -> Image.Image:
    """Lay a transparent picture over a pale chequerboard, so that what is missing looks missing."""
    y, x = np.indices((picture.height, picture.width)) // 10
    board = np.array(_CHECKER, dtype=np.uint8)[(x + y) % 2]
    ground = Image.fromarray(board).convert("RGBA")
    return Image.alpha_composite(ground, picture).convert("RGB")
