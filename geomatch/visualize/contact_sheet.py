"""A contact sheet: small pictures in rows, each with a line or two below it."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from geomatch.visualize.sheet import FAINT, INK, MARGIN, PAPER, caption_font, fit_photograph, truncate_name

PICTURE = (220, 165)
"""The largest a photograph is drawn: width and height in pixels."""
COLUMNS = 5
_LINE = 18


def thumbnail(pixels: Tensor) -> Image.Image:
    """A photograph (3, H, W) uint8 as a contact sheet has it."""
    return fit_photograph(pixels, PICTURE)


def draw_contact_sheet(pictures: Sequence[Image.Image], names: Sequence[str], notes: Sequence[str]) -> Image.Image:
    """Pictures, each in the middle of its place, in rows of `COLUMNS`; below each its name, and a note in grey."""
    columns, rows = min(COLUMNS, len(pictures)), -(-len(pictures) // COLUMNS)
    pitch = PICTURE[0] + MARGIN, PICTURE[1] + 2 * _LINE + MARGIN
    sheet = Image.new("RGB", (columns * pitch[0] + MARGIN, rows * pitch[1] + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, (picture, name, note) in enumerate(zip(pictures, names, notes, strict=True)):
        left, top = (MARGIN + pitch[axis] * (place % COLUMNS, place // COLUMNS)[axis] for axis in (0, 1))
        sheet.paste(picture, (left + (PICTURE[0] - picture.width) // 2, top + (PICTURE[1] - picture.height) // 2))
        for line, (text, ink) in enumerate(((name, INK), (note, FAINT))):
            shortened = truncate_name(draw, text, PICTURE[0])
            draw.text((left, top + PICTURE[1] + 3 + line * _LINE), shortened, fill=ink, font=caption_font())
    return sheet
