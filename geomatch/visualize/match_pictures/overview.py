"""One picture of a match: source, target, warp, confidence and flow side by side, and what the colours of flow mean."""

from __future__ import annotations

from dataclasses import dataclass

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
_BLACK = (0, 0, 0)
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
    outline = _Outline.of(_shrink(valid.astype(np.float32)) > 0.5)
    longest = float(np.hypot(*flow).max())
    panels = {
        "source": fit_height(to_picture(source), PANEL_HEIGHT),
        "target": fit_height(to_picture(target), PANEL_HEIGHT),
        "target, warped to source": outline.on(_over_checker(fit_height(to_picture(warped), PANEL_HEIGHT))),
        f"confidence, mean {correspondence.mean_confidence:.2f}": outline.on(
            outline.paler_outside(confidence_picture(confidence))
        ),
        "flow": outline.on(outline.paler_outside(flow_picture(flow))),
        f"rim: {longest:.0f} px": _centred(wheel_picture(_WHEEL)),
    }
    sheet, lefts, below = side_by_side(list(panels.values()), _CAPTION)
    draw = ImageDraw.Draw(sheet)
    for left, caption in zip(lefts, panels, strict=True):
        draw.text((left, below), caption, fill=INK, font=caption_font(15))
    return sheet


@dataclass(frozen=True)
class _Outline:
    """A region of pictures of one size, and the white line with dark ones beside it, but not along the border."""

    region: Image.Image
    line: Image.Image
    halo: Image.Image

    @classmethod
    def of(cls, region: NDArray[np.bool_]) -> _Outline:
        line = _grown(region) & _grown(~region)
        return cls(*map(Image.fromarray, (region, line, _grown(line))))

    def on(self, picture: Image.Image) -> Image.Image:
        """An RGB picture with the outline."""
        picture.paste(_mixed(picture, 2 / 3, _BLACK), mask=self.halo)
        picture.paste(PAPER, mask=self.line)
        return picture

    def paler_outside(self, picture: Image.Image) -> Image.Image:
        """An RGB picture that is mixed with paper outside of the region."""
        return Image.composite(picture, _mixed(picture, 1 / 2, PAPER), self.region)


def _mixed(picture: Image.Image, share: float, colour: tuple[int, int, int]) -> Image.Image:
    """An RGB picture with a share of a colour."""
    return Image.blend(picture, Image.new("RGB", picture.size, colour), share)


def _grown(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A region (h, w) and its neighbours above, below and at either side."""
    grown = region.copy()
    grown[1:] |= region[:-1]
    grown[:-1] |= region[1:]
    grown[:, 1:] |= region[:, :-1]
    grown[:, :-1] |= region[:, 1:]
    return grown


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
    background = Image.fromarray(board)
    background.paste(picture, mask=picture)
    return background
