"""One picture of a match: source, target, warp, confidence and flow side by side, and what the colours of flow mean."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from geomatch.correspondence import Correspondence
from geomatch.visualize.colours import colour_flow, confidence_picture, wheel_picture
from geomatch.visualize.sheet import INK, PAPER, caption_font, fit_height, side_by_side, size_at_height, to_picture

PANEL_HEIGHT = 320
_CAPTION, _CAPTION_SIZE = 30, 15
_OVERHANG = 2
"""Pixels of a letter to the left of where it begins, at most."""
_WHEEL = 104
_BLACK = (0, 0, 0)
_CHECKER = ((238, 238, 240), (222, 222, 226))


def photograph_panel(image: Tensor) -> Image.Image:
    """The panel of an image (3, H, W) uint8: all overviews of it may share one."""
    return fit_height(to_picture(image), PANEL_HEIGHT)


def draw_overview(
    photographs: tuple[Image.Image, Image.Image],
    warped: Tensor,
    correspondence: Correspondence,
    valid: NDArray[np.bool_],
) -> Image.Image:
    """Source, target, warp, confidence and flow in a row, and the wheel of the flow's colours.

    photographs: `photograph_panel` of source and target. warped: (4, H, W) uint8, the warp of the target, transparent
    where not valid. valid: (H, W), the region of the warp, which is outlined; beyond it confidence and flow are paler.
    """
    confidence = _shrink(correspondence.confidence.cpu().numpy())
    flow = np.stack([_shrink(axis) for axis in correspondence.flow.cpu().numpy()])
    outline = _Outline.of(_shrink(valid.astype(np.float32)) > 0.5)
    longest = float(np.hypot(*flow).max())
    panels = {
        "source": photographs[0],
        "target": photographs[1],
        "target, warped to source": outline.on(_over_checker(fit_height(to_picture(warped), PANEL_HEIGHT))),
        f"confidence, mean {correspondence.mean_confidence:.2f}": outline.on(
            outline.paler_outside(confidence_picture(confidence))
        ),
        "flow": outline.on(outline.paler_outside(Image.fromarray(colour_flow(flow, longest)))),
        f"rim: {longest:.0f} px": _centred(wheel_picture(_WHEEL)),
    }
    sheet, lefts, below = side_by_side(list(panels.values()), _CAPTION)
    for left, caption in zip(lefts, panels, strict=True):
        paint_caption(sheet, (left, below), caption)
    return sheet


def paint_caption(sheet: Image.Image, at: tuple[int, int], caption: str) -> None:
    """Write a caption on an RGB sheet, its left upper corner at (x, y)."""
    sheet.paste(INK, (at[0] - _OVERHANG, at[1]), _letters(caption))


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


@lru_cache(512)  # most captions are those of the pair before
def _letters(caption: str) -> Image.Image:
    """The mask through which a caption is painted."""
    font = caption_font(_CAPTION_SIZE)
    right, bottom = (int(side) for side in font.getbbox(caption)[2:])
    letters = Image.new("L", (_OVERHANG + right, bottom))
    ImageDraw.Draw(letters).text((_OVERHANG, 0), caption, fill=255, font=font)
    return letters


def _over_checker(picture: Image.Image) -> Image.Image:
    """A picture over a pale chequerboard, which shows where it is transparent."""
    background = _checker(picture.size).copy()
    background.paste(picture, mask=picture)
    return background


@lru_cache(16)
def _checker(size: tuple[int, int]) -> Image.Image:
    """A pale chequerboard of (width, height)."""
    x, y = (np.arange(length) // 10 for length in size)
    return Image.fromarray(np.array(_CHECKER, dtype=np.uint8)[np.add.outer(y, x) % 2])
