"""One picture of a match: source, target, warp, confidence and flow side by side, and what the colours of flow mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from geomatch.correspondence import Correspondence
from geomatch.visualize.colours import confidence_picture, flow_picture, wheel_picture
from geomatch.visualize.sheet import INK, PAPER, caption_font, fit_height, side_by_side, size_at_height, to_picture

PANEL_HEIGHT = 320
_CAPTION = 30
_WHEEL = 104
_CHECKER = ((238, 238, 240), (222, 222, 226))


def draw_overview(
    source: Tensor, target: Tensor, warped: Tensor, correspondence: Correspondence, valid: NDArray[np.bool_]
) -> Image.Image:
    """Source, target, warp, confidence and flow in a row, and the wheel of the flow's colours.

    source, target: (3, H, W) uint8. warped: (4, H, W) uint8, the warp of the target, transparent where not valid.
    valid: (H, W), the region of the warp, which is outlined; beyond it confidence and flow are paler.
    """
    confidence = _shrink(correspondence.confidence.cpu().numpy())
    flow = np.stack([_shrink(axis) for axis in correspondence.flow.cpu().numpy()])
    region = _shrink(valid.astype(np.float32)) > 0.5
    longest = float(np.hypot(*flow).max())
    panels = {
        "source": fit_height(to_picture(source), PANEL_HEIGHT),
        "target": fit_height(to_picture(target), PANEL_HEIGHT),
        "target, warped to source": _outlined(_over_checker(fit_height(to_picture(warped), PANEL_HEIGHT)), region),
        f"confidence, mean {correspondence.mean_confidence:.2f}": _outlined(
            _paler(confidence_picture(confidence), region), region
        ),
        "flow": _outlined(_paler(flow_picture(flow), region), region),
        f"rim: {longest:.0f} px": _centred(wheel_picture(_WHEEL)),
    }
    sheet, lefts, below = side_by_side(list(panels.values()), _CAPTION)
    draw = ImageDraw.Draw(sheet)
    for left, caption in zip(lefts, panels, strict=True):
        draw.text((left, below), caption, fill=INK, font=caption_font(15))
    return sheet


def _outlined(picture: Image.Image, region: NDArray[np.bool_]) -> Image.Image:
    """A picture with a region (h, w) outlined in white between dark lines, but not along the picture's border."""
    from scipy import ndimage

    outside = ~region
    line = ndimage.binary_dilation(outside, border_value=0) & ndimage.binary_dilation(region, border_value=0)
    halo = ndimage.binary_dilation(line)
    colours = np.array(picture.convert("RGB"))
    colours[halo] = colours[halo] // 3
    colours[line] = 255
    return Image.fromarray(colours)


def _paler(picture: Image.Image, region: NDArray[np.bool_]) -> Image.Image:
    """A picture that is mixed with paper outside of a region (h, w)."""
    colours = np.array(picture.convert("RGB"))
    colours[~region] = 255 - (255 - colours[~region]) // 2
    return Image.fromarray(colours)


def _centred(picture: Image.Image) -> Image.Image:
    """A small picture in the middle of a panel's height."""
    panel = Image.new("RGB", (picture.width, PANEL_HEIGHT), PAPER)
    panel.paste(picture, (0, (PANEL_HEIGHT - picture.height) // 2))
    return panel


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
