"""From target points to flow, confidence and validity."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from geomatch.correspondence import FeatureMap
from geomatch.geometry.grid import Grid
from geomatch.matching.base import MatchContext, TargetPoints
from geomatch.matching.confidence import CueSettings, confidence_both_ways
from geomatch.matching.densify import (
    Densification,
    PixelInterpolation,
    densify,
    densify_both_ways,
    interpolate_displacements,
)
from tests.conftest import random_features
from tests.stub import match_features


def smooth_features(grid: Grid, image_size: tuple[int, int], wavelength: float = 90.0) -> FeatureMap:
    """Descriptors that are smooth functions of the pixel they stand on, so that the true match is known everywhere."""
    random = np.random.default_rng(0)
    frequencies = torch.from_numpy(random.normal(size=(64, 2)) / wavelength).float()
    phases = torch.from_numpy(random.uniform(0, 2 * np.pi, 64)).float()
    values = torch.cos(2 * np.pi * grid.centres() @ frequencies.mT + phases)
    descriptors = torch.nn.functional.normalize(values, dim=1).mT.reshape(64, *grid.shape)
    return FeatureMap(descriptors, image_size, grid)


def test_pixel_interpolation_equals_scipy() -> None:
    grid = Grid(3, 4, origin=(5.3, 2.1), pitch=(9.7, 8.2))
    values = np.random.default_rng(0).normal(size=(3, 4))
    interpolate = PixelInterpolation.over(grid, (31, 45), torch.device("cpu"))
    found = interpolate(torch.from_numpy(values).float().reshape(-1, 1))
    y, x = np.mgrid[0:31, 0:45]
    expected = map_coordinates(values, [(y - 2.1) / 8.2, (x - 5.3) / 9.7], order=1, mode="nearest")
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-5)


def test_displacements_that_agree_are_interpolated_bilinearly() -> None:
    """A zoom by 2.4: diagonal neighbours differ by almost two cells."""
    grid = Grid(4, 5, origin=(3.0, 4.0), pitch=(8.0, 8.0))
    displacements = 1.4 * grid.centres() - 10
    found = interpolate_displacements(displacements, grid, (33, 41))
    plain = PixelInterpolation.over(grid, (33, 41), torch.device("cpu"))(displacements)
    torch.testing.assert_close(found, plain, atol=1e-5, rtol=0)


def test_displacements_of_different_matches_are_not_mixed() -> None:
    """Every pixel takes its nearest column's match, up to the row's end; the last row and column go on."""
    grid = Grid(2, 2, origin=(2.0, 2.0), pitch=(4.0, 4.0))
    displacements = torch.tensor([[0.0, 0.0], [40.0, 0.0], [0.0, 4.0], [40.0, 4.0]])
    flow = interpolate_displacements(displacements, grid, (9, 9))
    x, y = torch.arange(9.0), ((torch.arange(9.0) - 2) / 4).clamp(0, 1)
    torch.testing.assert_close(flow[0], torch.where(x <= 4, 0.0, 40.0).expand(9, 9))
    torch.testing.assert_close(flow[1], (4 * y)[:, None].expand(9, 9))


def test_interpolate_displacements_equals_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geomatch.matching.densify._PIXELS_AT_ONCE", 100)
    grid = Grid(3, 4, origin=(5.3, 2.1), pitch=(9.7, 8.2))
    displacements = torch.from_numpy(np.random.default_rng(3).normal(size=(12, 2)) * 20).float()
    found = interpolate_displacements(displacements, grid, (31, 45))
    field = displacements.numpy().reshape(3, 4, 2)
    for row in range(31):
        for column in range(45):
            y, x = min(max((row - 2.1) / 8.2, 0), 2), min(max((column - 5.3) / 9.7, 0), 3)
            cells = [(min(int(y) + dy, 2), min(int(x) + dx, 3)) for dy in (0, 1) for dx in (0, 1)]
            shares = [a * b for a in (1 - y % 1, y % 1) for b in (1 - x % 1, x % 1)]
            apart = [[float(np.linalg.norm(field[i] - field[j])) / 9.7 for j in cells] for i in cells]
            sides = [[w * min(max(2 - d / 2, 0), 1) for w, d in zip(shares, line, strict=True)] for line in apart]
            side = np.array(sides[int(np.argmax(np.sum(sides, axis=1)))])
            expected = (side / side.sum()) @ np.array([field[cell] for cell in cells])
            np.testing.assert_allclose(found[:, row, column].numpy(), expected, atol=1e-3)


def test_densify_confidence_at_cells_is_that_of_their_matches() -> None:
    source, target = random_features(5, 7, cell=9, sigma=0.2), random_features(6, 5, cell=11, seed=1, sigma=0.1)
    random = np.random.default_rng(0)
    there = TargetPoints(source.grid, target.grid.centres()[torch.from_numpy(random.integers(0, 30, 35))])
    back = TargetPoints(target.grid, source.grid.centres()[torch.from_numpy(random.integers(0, 35, 30))])
    context = MatchContext(source, target, 1 << 20)
    found = densify(context, there, back, Densification())
    expected, expected_back = confidence_both_ways(context, there, back, CueSettings())
    torch.testing.assert_close(found.confidence[4::9, 4::9].flatten(), expected)
    both = densify_both_ways(context, there, back, Densification())
    assert torch.equal(both[0].confidence, found.confidence)
    assert torch.equal(both[0].flow, found.flow)
    torch.testing.assert_close(both[1].confidence[5::11, 5::11].flatten(), expected_back)


def test_densify_needs_min_confidence() -> None:
    source, target = random_features(6, 7, sigma=0.3), random_features(6, 7, seed=1, sigma=0.3)
    anyhow = match_features("nn", source, target)
    half = float(anyhow.confidence[anyhow.valid].median())
    sure = match_features("nn", source, target, min_confidence=half)
    assert torch.equal(sure.valid, anyhow.valid & (anyhow.confidence >= half))
    assert 0 < sure.valid.sum() < anyhow.valid.sum()


@pytest.mark.parametrize("cells", [0, 56])
def test_match_finds_a_known_warp_to_half_a_cell(cells: int) -> None:
    """A 313 x 471 source and its affine image of 257 x 339, each on its own grid, described by position alone."""
    source_size, target_size = (313, 471), (257, 339)
    warp = torch.tensor([[0.66, 0.05], [-0.04, 0.75]])
    offset = torch.tensor([9.0, 17.0])
    source_grid = Grid(18, 28, origin=(10.2, 9.1), pitch=(16.7, 16.7))
    target_grid = Grid(15, 20, origin=(7.7, 8.4), pitch=(16.5, 16.5))
    source = smooth_features(source_grid, source_size)
    # A target pixel q shows the source point p with q = W p + o.
    back = torch.linalg.inv(warp)
    moved = (target_grid.centres() - offset) @ back.mT
    random = np.random.default_rng(0)
    frequencies = torch.from_numpy(random.normal(size=(64, 2)) / 90).float()
    phases = torch.from_numpy(random.uniform(0, 2 * np.pi, 64)).float()
    values = torch.nn.functional.normalize(torch.cos(2 * np.pi * moved @ frequencies.mT + phases), dim=1)
    target = FeatureMap(values.mT.reshape(64, *target_grid.shape), target_size, target_grid)

    found = match_features("nn", source, target, cells=cells)
    y, x = torch.meshgrid(torch.arange(313.0), torch.arange(471.0), indexing="ij")
    pixels = torch.stack((x, y), dim=-1)
    truth = (pixels @ warp.mT + offset - pixels).permute(2, 0, 1)
    error = (found.flow - truth).norm(dim=0)[found.valid]
    assert found.valid.float().mean() > 0.8
    assert error.median() < 16.5 / 2


def test_densify_needs_a_closed_cycle() -> None:
    source, target = random_features(4, 4), random_features(4, 4, seed=1)
    there = TargetPoints(source.grid, target.grid.centres())
    astray = TargetPoints(target.grid, source.grid.centres()[15].expand(16, 2))
    found = densify(MatchContext(source, target), there, astray, Densification(cycle_tolerance=0.1))
    assert not found.valid[:20, :20].any()
    assert found.valid[-5:, -5:].all()


def test_densify_positions_outside_the_target_are_invalid() -> None:
    source = FeatureMap(random_features(4, 4).descriptors, (40, 40), Grid.over((40, 40), 4, 4))
    small = FeatureMap(random_features(4, 4).descriptors, (20, 20), Grid(4, 4, origin=(4.5, 4.5), pitch=(10.0, 10.0)))
    there, back = TargetPoints(source.grid, small.grid.centres()), TargetPoints(small.grid, source.grid.centres())
    found = densify(MatchContext(source, small, 1 << 20), there, back, Densification())
    assert found.valid[:20, :20].all()
    assert not found.valid[20:].any()


def test_densify_filled_points_are_invalid() -> None:
    features = random_features(4, 4)
    centres = features.grid.centres()
    found = torch.ones(16, dtype=torch.bool)
    found[:8] = False
    there, back = TargetPoints(features.grid, centres, found), TargetPoints(features.grid, centres)
    correspondence = densify(MatchContext(features, features, 1 << 20), there, back, Densification())
    assert not correspondence.valid[:15].any()
    assert correspondence.valid[-15:].all()


def test_target_points_are_read_between_cells() -> None:
    grid = Grid(2, 2, origin=(4.5, 4.5), pitch=(10.0, 10.0))
    points = TargetPoints(grid, grid.centres() + torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 8.0], [4.0, 8.0]]))
    read = points.at(torch.tensor([[9.5, 9.5], [0.0, 0.0]]))
    torch.testing.assert_close(read, torch.tensor([[11.5, 13.5], [0.0, 0.0]]))
