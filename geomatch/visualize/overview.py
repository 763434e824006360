"""One picture of a match: source, target, warp, confidence and flow side by side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from geomatch.correspondence import Correspondence
from geomatch.visualize.colours import confidence_picture, flow_picture
from geomatch.visualize.sheet import INK, caption_font, fit_height, side_by_side, size_at_height, to_picture

PANEL_HEIGHT = 320
_CAPTION = 30
_CHECKER = ((238, 238, 240), (222, 222, 226))


def draw_overview(source: Tensor, target: Tensor, warped: Tensor, correspondence: Correspondence) -> Image.Image:
    """Source, target, warp, confidence and flow in a row.

    source, target: (3, H, W) uint8. warped: (4, H, W) uint8, the warp of the target, transparent where not valid.
    """
    confidence = correspondence.confidence.cpu().numpy()
    panels = {
        "source": fit_height(to_picture(source), PANEL_HEIGHT),
        "target": fit_height(to_picture(target), PANEL_HEIGHT),
        "target, warped to source": _over_checker(fit_height(to_picture(warped), PANEL_HEIGHT)),
        f"confidence, mean {confidence.mean():.2f}": confidence_picture(_shrink(confidence)),
        "flow": flow_picture(np.stack([_shrink(axis) for axis in correspondence.flow.cpu().numpy()])),
    }
    sheet, lefts, below = side_by_side(list(panels.values()), _CAPTION)
    draw = ImageDraw.Draw(sheet)
    for left, caption in zip(lefts, panels, strict=True):
        draw.text((left, below), caption, fill=INK, font=caption_font(15))
    return sheet


def _shrink(values: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = values.shape
    size = size_at_height((width, height), PANEL_HEIGHT)
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR), dtype=np.float32)


def _over_checker(picture: Image.Image) -> Image.Image:
    """A picture over a pale chequerboard, which shows where it is transparent."""
    y, x = (np.arange(length) // 10 for length in (picture.height, picture.width))
    board = np.array(_CHECKER, dtype=np.uint8)[np.add.outer(y, x) % 2]
    background = Image.fromarray(board).convert("RGBA")
    return Image.alpha_composite(background, picture).convert("RGB")
