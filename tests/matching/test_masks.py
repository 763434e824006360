"""Masks keep what lies outside them out of every matcher's answers."""

from dataclasses import replace

import pytest
import torch

from geomatch.correspondence import FeatureMap, pixels_allowed
from geomatch.geometry.grid import Grid
from geomatch.geometry.mask import cells_inside, share_inside
from geomatch.matching.base import MatchContext
from geomatch.matching.confidence import CueSettings, confidence_both_ways
from geomatch.matching.load import load_matcher
from geomatch.matching.nearest import nearest_partners
from geomatch.registry import MATCHERS
from tests.conftest import random_features
from tests.stub import Embedded, match_features

ROWS, COLUMNS, CELL = 6, 12, 10


def half(*, right: bool) -> torch.Tensor:
    """A mask of one half of an image of ROWS x COLUMNS cells."""
    columns = torch.arange(COLUMNS * CELL) >= COLUMNS * CELL // 2
    return (columns == right).expand(ROWS * CELL, -1)


def features_for(name: str) -> FeatureMap:
    features = random_features(ROWS, COLUMNS, channels=4 if name.startswith("scnet") else 32, sigma=0.1)
    return Embedded().complete(features) if name.startswith("scnet") else features


def twice(features: FeatureMap) -> FeatureMap:
    """The left half of the features, and on the right the same again, a little different."""
    left = features.descriptors[..., : COLUMNS // 2]
    blurred = left + 0.3 * random_features(ROWS, COLUMNS // 2, channels=len(left), seed=1).descriptors
    both = torch.nn.functional.normalize(torch.cat((left, blurred), dim=2), dim=0)
    return replace(features, descriptors=both)


@pytest.mark.parametrize("name", MATCHERS.entries)
def test_no_valid_pixel_lies_outside_the_masks(name: str) -> None:
    """The object is in the left half of the source and in both of the target; only the right one may be found."""
    if name.startswith(("roi-nn", "scnet")):
        pytest.importorskip("cv2")
    both = twice(features_for(name))
    quicker = {"lattice": 24} if name.startswith(("pf-", "roi-nn", "scnet")) else None
    found = match_features(name, both.masked(half(right=False)), both.masked(half(right=True)), quicker)
    assert not found.valid[half(right=True)].any()
    assert not found.confidence[half(right=True)].any()
    row, column = found.valid.nonzero().unbind(dim=1)
    x, y = column + found.flow[0, row, column], row + found.flow[1, row, column]
    assert half(right=True)[(y + 0.5).floor().long(), (x + 0.5).floor().long()].all()


@pytest.mark.parametrize("name", ["nn", "mutual", "hough", "dsp", "affine", "fusion", "pf-phm"])
def test_masked_matchers_find_the_object_inside(name: str) -> None:
    both = twice(features_for(name))
    first = match_features(name, both.masked(half(right=False)), both)
    assert first.flow[:, half(right=False)].norm(dim=0).median() < 1  # without a mask, the better of the two
    found = match_features(name, both.masked(half(right=False)), both.masked(half(right=True)))
    inside = found.valid[half(right=False)].float().mean()
    assert inside > 0.5
    moved = found.flow[:, found.valid] - torch.tensor([COLUMNS * CELL / 2, 0.0])[:, None]
    assert moved.norm(dim=0).median() < CELL / 2


def test_masked_neighbours_equal_those_of_the_cut_images() -> None:
    """Cells outside count for nothing: arg-maxima and confidence are those of the images cut to their masks."""
    whole, cut = random_features(ROWS, COLUMNS, seed=2, sigma=0.2), {}
    other = random_features(ROWS, COLUMNS, seed=3, sigma=0.2)
    for each, right in ((whole, False), (other, True)):
        columns = slice(COLUMNS // 2, None) if right else slice(COLUMNS // 2)
        size, shape = (ROWS * CELL, COLUMNS * CELL // 2), (ROWS, COLUMNS // 2)
        assert each.inverse_confidence is not None
        cut[right] = replace(
            each,
            descriptors=each.descriptors[..., columns],
            inverse_confidence=each.inverse_confidence[:, columns],
            image_size=size,
            grid=Grid.over(size, *shape),
        )
    masked = MatchContext(whole.masked(half(right=False)), other.masked(half(right=True)))
    partners, expected = nearest_partners(masked), nearest_partners(MatchContext(cut[False], cut[True]))
    inside, outside = half(right=False)[::CELL, ::CELL].flatten(), half(right=True)[::CELL, ::CELL].flatten()
    row, column = partners.forward[inside] // COLUMNS, partners.forward[inside] % COLUMNS - COLUMNS // 2
    assert torch.equal(row * (COLUMNS // 2) + column, expected.forward)
    row, column = partners.backward[outside] // COLUMNS, partners.backward[outside] % COLUMNS
    assert torch.equal(row * (COLUMNS // 2) + column, expected.backward)

    settings = CueSettings(reach=0.01)  # the reach is a share of the image, whose sides differ
    points = load_matcher("nn")(masked)
    confidence = confidence_both_ways(masked, *points, settings)
    assert not confidence[0][~inside].any()
    assert not confidence[1][~outside].any()
    assert confidence[0][inside].min() > 0


def test_refinement_stays_among_cells_inside() -> None:
    """Positions are means of cells inside, also where the best cell lies at the mask's edge."""
    features = random_features(ROWS, COLUMNS, seed=4)
    smooth = replace(features, descriptors=torch.nn.functional.normalize(features.descriptors + 1, dim=0))
    mask = half(right=True)
    forward, _ = load_matcher("nn", {"temperature": 10.0})(MatchContext(smooth, smooth.masked(mask)))
    least = COLUMNS // 2 * CELL + (CELL - 1) / 2
    assert forward.positions[:, 0].min() >= least - 1


def test_confidence_and_validity_do_not_fade_at_the_mask_s_edge() -> None:
    """Beyond the last cells inside, their values hold, as they do at an image's border."""
    features = random_features(ROWS, COLUMNS, seed=5, sigma=0.1)
    found = match_features("nn", features.masked(half(right=False)), features)
    edge, centre = COLUMNS * CELL // 2 - 1, COLUMNS * CELL // 2 - CELL // 2
    assert found.valid[:, edge].all()
    torch.testing.assert_close(found.confidence[:, edge], found.confidence[:, centre])


def test_upsampling_pooling_and_flipping_keep_the_mask() -> None:
    mask = half(right=True)
    features = replace(random_features(ROWS, COLUMNS), mirrored=random_features(ROWS, COLUMNS)).masked(mask)
    assert features.mirrored is not None
    assert torch.equal(features.mirrored.mask, mask.flip(-1))
    for each in (features.upsampled(2), features.pooled(2)):
        assert each.inside is not None
        columns = torch.arange(each.grid.width) >= each.grid.width // 2
        assert torch.equal(each.inside.reshape(each.grid.shape), columns.expand(each.grid.shape))
    assert torch.equal(features.flipped().mask, mask.flip(-1))


def test_share_inside_equals_the_share_of_finer_pixels() -> None:
    torch.manual_seed(0)
    mask = torch.rand(7, 9) > 0.4
    fine = mask.repeat_interleave(10, 0).repeat_interleave(10, 1).double()
    boxes = torch.tensor([[0.5, 1.2, 4.1, 6.5], [-0.5, -0.5, 8.5, 6.5], [-3.0, 2.0, 2.2, 9.9], [7.9, 0.1, 8.0, 0.2]])
    for box, share in zip(boxes, share_inside(mask, boxes), strict=True):
        left, top, right, bottom = ((box + 0.5) * 10).round().long().clamp(min=0).tolist()
        assert share == pytest.approx(fine[top:bottom, left:right].mean().item())
    assert share_inside(mask, torch.tensor([[20.0, 20, 30, 30]])) == 0


def test_thin_masks_have_the_cells_they_cover_most() -> None:
    mask = torch.zeros(40, 40, dtype=torch.bool)
    mask[:, 12] = True
    assert cells_inside(mask, Grid.over((40, 40), 4, 4)).reshape(4, 4).tolist() == [[False, True, False, False]] * 4


def test_pixels_allowed_reads_the_nearest_pixel() -> None:
    flow = torch.tensor([[[0.4, 0.6, float("nan"), 3.0]], [[0.0, 0.0, 0.0, 0.0]]])
    target = torch.tensor([[True, False, True, True]])
    assert pixels_allowed(flow, (1, 4)).tolist() == [[True, True, False, False]]
    assert pixels_allowed(flow, (1, 4), None, target).tolist() == [[True, True, False, False]]
    assert pixels_allowed(flow, (1, 4), ~target, target).tolist() == [[False, True, False, False]]
