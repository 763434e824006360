from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from geomatch.batch.match_pairs import ShownImage
from geomatch.correspondence import Correspondence
from geomatch.result import picture_files
from geomatch.visualize.match_pictures.overview import PANEL_HEIGHT, draw_overview, paint_caption, photograph_panel
from geomatch.visualize.sheet import INK, PAPER, caption_font

SIZE = (40, 60)


def images() -> tuple[torch.Tensor, torch.Tensor]:
    dice = np.random.default_rng(0)
    source, target = (torch.from_numpy(dice.integers(0, 256, (3, *SIZE), dtype=np.uint8)) for _ in range(2))
    return source, target


def shifted() -> Correspondence:
    valid = torch.zeros(SIZE, dtype=torch.bool)
    valid[10:30, 10:40] = True
    flow = torch.tensor([10.0, 5.0])[:, None, None].expand(2, *SIZE).contiguous()
    return Correspondence(flow, torch.full(SIZE, 0.5), valid, SIZE, SIZE)


@pytest.mark.parametrize("caption", ["flow", "rim: 123 px", "jgy, fj"])
def test_caption_is_as_pillow_draws_it(caption: str) -> None:
    """Letters may begin left of where they are put, and end below the line."""
    sheets = [Image.new("RGB", (200, 40), PAPER) for _ in range(2)]
    paint_caption(sheets[0], (20, 8), caption)
    ImageDraw.Draw(sheets[1]).text((20, 8), caption, fill=INK, font=caption_font(15))
    np.testing.assert_array_equal(*map(np.asarray, sheets))
    assert np.asarray(sheets[0]).min() < 100


def test_overview_leaves_panels_to_the_next_one() -> None:
    panels = tuple(map(photograph_panel, images()))
    before = [panel.tobytes() for panel in panels]
    warped, valid = torch.full((4, *SIZE), 90, dtype=torch.uint8), shifted().valid.numpy()
    drawn = [np.asarray(draw_overview((panels[0], panels[1]), warped, shifted(), valid)) for _ in range(2)]
    np.testing.assert_array_equal(*drawn)
    assert [panel.tobytes() for panel in panels] == before
    assert all(panel.size == (PANEL_HEIGHT * 3 // 2, PANEL_HEIGHT) for panel in panels)


def test_pictures_are_the_same_with_panels_at_hand() -> None:
    source, target = images()
    panels = photograph_panel(source), photograph_panel(target)
    assert picture_files(source, target, shifted(), panels=panels) == picture_files(source, target, shifted())


@pytest.mark.parametrize("repeatable", [True, False])
def test_shown_image_draws_its_panel_once_and_counts_it(repeatable: bool) -> None:
    """An image that cannot be read again counts as nothing, since dropping it would lose it."""
    image = ShownImage(path=Path("a.png"), pixels=images()[0], sha256="", repeatable=repeatable)
    before = image.nbytes
    assert image.panel is image.panel
    drawn = 4 * image.panel.width * image.panel.height
    assert (before, image.nbytes - before) == ((image.pixels.nbytes, drawn) if repeatable else (0, 0))
