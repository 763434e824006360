import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, map_coordinates

from geomatch.geometry.homography import WarpRanges, apply_homography, random_view, warp_image
from geomatch.training.augmentation import (
    ColourRanges,
    ViewPairs,
    change_colours,
    corresponding_points,
    draw_view_pairs,
    random_colours,
)

seeds = st.integers(0, 2**31)
SIZES = ((200, 260), (90, 300), (231, 128))


def smooth_photographs() -> list[torch.Tensor]:
    random = np.random.default_rng(0)
    found = []
    for size in SIZES:
        noise = gaussian_filter(random.uniform(size=(3, *size)), (0, 6, 6))
        found.append(torch.from_numpy((255 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8)))
    return found


def drawn(seed: int, colours: ColourRanges | None = None) -> ViewPairs:
    generator = torch.Generator().manual_seed(seed)
    return draw_view_pairs(smooth_photographs(), 96, 300, WarpRanges(), colours or ColourRanges(), generator)


NO_CHANGE = ColourRanges(brightness=0, contrast=0, saturation=0, tint=0, shading=0, grey_probability=0)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_corresponding_points_same_spot_of_photograph(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    first, second = (random_view((224, 300), 224, WarpRanges(), generator) for _ in range(2))
    a, b = corresponding_points(first, second, 224, 100, generator)
    assert a.shape == b.shape == (100, 2)
    torch.testing.assert_close(apply_homography(first, a), apply_homography(second, b))
    for points in (a, b):
        assert points.min() >= 0
        assert points.max() <= 223


def test_draw_view_pairs_warps_both_views() -> None:
    """Neither view shows all of its photograph unturned, nor the same part as the other."""
    pairs = drawn(0)
    for (height, width), (first, second) in zip(SIZES, pairs.homographies, strict=True):
        whole = torch.tensor([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1.0]], dtype=torch.float64)
        corners = [
            apply_homography(view, torch.tensor([[0, 0], [95, 0], [95, 95], [0, 95.0]]).double())
            for view in (first, second)
        ]
        for one, other in ((corners[0], whole), (corners[1], whole), tuple(corners)):
            assert (one - other).norm(dim=1).mean() > 0.1 * min(height, width)
        for one in corners:
            across, down = one[1] - one[0], one[3] - one[0]
            assert min(across[1].abs(), down[0].abs()) > 0


def test_draw_view_pairs_points_exact_in_float64() -> None:
    pairs = drawn(0)
    places = apply_homography(pairs.homographies, pairs.points)
    torch.testing.assert_close(places[:, 0], places[:, 1], atol=1e-9, rtol=0)
    assert pairs.points.dtype == torch.float64


def test_draw_view_pairs_points_same_colour() -> None:
    pairs = drawn(0, NO_CHANGE)
    views = pairs.render(96)
    for photograph in range(len(SIZES)):
        read = []
        for view in range(2):
            x, y = pairs.points[photograph, view].mT.numpy()
            read.append(np.stack([map_coordinates(c.numpy(), [y, x], order=1) for c in views[photograph, view]]))
        assert np.abs(read[0] - read[1]).mean() < 0.05 * float(views[photograph].std())


def test_render_matches_one_view_at_a_time() -> None:
    """Against the one-by-one road: every photograph alone, in float64 coordinates, colours in so many words."""
    ranges = ColourRanges(grey_probability=0.5)
    pairs = drawn(7, ranges)
    views = pairs.render(96)
    generator = torch.Generator().manual_seed(7)
    for number, pixels in enumerate(smooth_photographs()):
        maps = [random_view((pixels.shape[1], pixels.shape[2]), 96, WarpRanges(), generator) for _ in range(2)]
        corresponding_points(maps[0], maps[1], 96, 300, generator)
        for side, homography in enumerate(maps):
            view = warp_image(pixels.float() / 255, homography, (96, 96))
            expected = recolour(view, ranges, generator)
            torch.testing.assert_close(views[number, side], expected, atol=1e-4, rtol=0)


def recolour(view: torch.Tensor, ranges: ColourRanges, generator: torch.Generator) -> torch.Tensor:
    """Saturation, contrast about the mean, gain, tint and shading, one after the other."""

    def uniform(*shape: int) -> torch.Tensor:
        return 2 * torch.rand(shape, generator=generator) - 1

    saturation = 1 + ranges.saturation * uniform(1)
    if torch.rand((), generator=generator) < ranges.grey_probability:
        saturation = torch.zeros(1)
    grey = view.mean(dim=0, keepdim=True)
    view = grey + saturation * (view - grey)
    view = view.mean() + (1 + ranges.contrast * uniform(1)) * (view - view.mean())
    view = view * (1 + ranges.brightness * uniform(1)) * (1 + ranges.tint * uniform(3))[:, None, None]
    height, width = view.shape[1:]
    slope = ranges.shading * uniform(2)
    light = 1 + slope[0] * torch.linspace(-1, 1, width) + slope[1] * torch.linspace(-1, 1, height)[:, None]
    return (view * light).clamp(0, 1)


def test_draw_view_pairs_reproducible_by_seed() -> None:
    first, again = drawn(3), drawn(3)
    for name, tensor in vars(first).items():
        assert torch.equal(tensor, getattr(again, name)), name
    assert torch.equal(first.render(96), again.render(96))
    assert not torch.equal(first.render(96), drawn(4).render(96))


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_change_colours_stays_in_range(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    views = torch.rand(2, 3, 16, 16, generator=generator)
    changes = zip(*(random_colours(ColourRanges(), generator) for _ in range(2)), strict=True)
    changed = change_colours(views, *(torch.stack(each) for each in changes))
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert not torch.equal(changed[0], views[0])


def test_change_colours_identity() -> None:
    views = torch.rand(1, 3, 16, 20, generator=torch.Generator().manual_seed(0))
    change = random_colours(NO_CHANGE, torch.Generator().manual_seed(0))
    torch.testing.assert_close(change_colours(views, *(each[None] for each in change)), views)
