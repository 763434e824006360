"""Search on fine maps: synthetic maps of a known shift, properties, and a slow reference of the windows."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.correspondence import FeatureMap, FineMap
from geomatch.errors import OutOfMemoryError
from geomatch.features.fine_map import compress
from geomatch.geometry.grid import Grid
from geomatch.matching.base import MatchContext, TargetPoints
from geomatch.matching.densify import Densification, densify
from geomatch.matching.refinement.fine_search import RADIUS, search_fine_maps, windows_at, windows_in_place
from geomatch.options import Refine

SIZE = (112, 144)
GRID = Grid.over(SIZE, 28, 36)
COARSE = Grid.over(SIZE, 14, 18)


def seen(positions: Tensor, seed: int, channels: int = 24) -> Tensor:
    """What a random picture shows at positions (N, 2), in pixels: waves of 30 to 90 pixels in each channel."""
    generator = torch.Generator().manual_seed(seed)
    waves = 8
    length = 30 + 60 * torch.rand(channels * waves, generator=generator)
    angle = 2 * math.pi * torch.rand(channels * waves, generator=generator)
    phase = 2 * math.pi * torch.rand(channels * waves, generator=generator)
    frequency = torch.stack((angle.cos(), angle.sin())) * 2 * math.pi / length
    return (positions @ frequency + phase).cos().reshape(len(positions), channels, waves).sum(dim=2).mT


def fine_of(seed: int, shift: tuple[float, float] = (0.0, 0.0)) -> FineMap:
    """The fine map of a random picture, moved by ``shift`` pixels."""
    return compress(seen(GRID.centres() - torch.tensor(shift), seed).reshape(-1, *GRID.shape), GRID)


def context_of(source: FineMap | None, target: FineMap | None, max_bytes: int = 1 << 30) -> MatchContext:
    descriptors = F.normalize(torch.ones(4, *COARSE.shape), dim=0)
    features = (FeatureMap(descriptors, SIZE, COARSE, fine=fine) for fine in (source, target))
    return MatchContext(*features, max_bytes)


def points_moved_by(x: float, y: float) -> TargetPoints:
    return TargetPoints(COARSE, COARSE.centres() + torch.tensor((x, y)))


def is_inner(cells: Tensor, margin: int = 4) -> Tensor:
    return ((cells >= margin) & (cells <= torch.tensor((GRID.width, GRID.height)) - 1 - margin)).all(dim=1)


@pytest.mark.parametrize("truth", [(0.0, 0.0), (1.0, -0.6), (2.7, 1.9), (-5.3, 3.1)])
@pytest.mark.parametrize("wrong_by", [(0.0, 0.0), (3.0, -4.0), (-6.0, 5.0)])
def test_fine_search_finds_known_shift(truth: tuple[float, float], wrong_by: tuple[float, float]) -> None:
    """Cells are four pixels wide; the shift is found to a tenth of a cell from up to two cells away."""
    points = points_moved_by(truth[0] + wrong_by[0], truth[1] + wrong_by[1])
    found = search_fine_maps(context_of(fine_of(1), fine_of(1, truth)), points)
    assert found is not None
    assert found.grid == GRID
    error = (found.displacements() - torch.tensor(truth))[is_inner(GRID.cells())].norm(dim=1)
    assert error.median() < 0.4
    assert error.max() < 1.5


def test_fine_search_leaves_identity() -> None:
    found = search_fine_maps(context_of(fine_of(2), fine_of(2)), points_moved_by(0, 0))
    assert found is not None
    assert found.displacements().abs().max() < 2e-3


def test_fine_search_is_equivariant_to_translation() -> None:
    """The same two pictures seen four cells further on: the same displacements, four cells further on."""
    step = 4 * GRID.pitch[0]
    here = search_fine_maps(context_of(fine_of(3), fine_of(3, (2.0, 1.0))), points_moved_by(0, 0))
    there = search_fine_maps(context_of(fine_of(3, (step, 0.0)), fine_of(3, (2.0 + step, 1.0))), points_moved_by(0, 0))
    assert here is not None
    assert there is not None
    first, second = (each.displacements().reshape(*GRID.shape, 2) for each in (here, there))
    assert (first[8:-8, 8:-12] - second[8:-8, 12:-8]).abs().max() < 0.2


def test_fine_search_leaves_different_pictures() -> None:
    assert search_fine_maps(context_of(fine_of(4), fine_of(5)), points_moved_by(0, 0)) is None


def test_fine_search_leaves_flat_pictures() -> None:
    flat = compress(torch.ones(24, *GRID.shape), GRID)
    assert search_fine_maps(context_of(flat, flat), points_moved_by(0, 0)) is None


def test_fine_search_needs_both_maps() -> None:
    assert search_fine_maps(context_of(fine_of(6), None), points_moved_by(0, 0)) is None
    assert search_fine_maps(context_of(None, fine_of(6)), points_moved_by(0, 0)) is None


def test_fine_search_does_not_depend_on_blocks() -> None:
    whole, parts = (
        search_fine_maps(context_of(fine_of(7), fine_of(7, (3.0, 2.0)), bound), points_moved_by(0, 0))
        for bound in (1 << 30, 1 << 18)
    )
    assert whole is not None
    assert parts is not None
    assert torch.allclose(whole.positions, parts.positions, atol=1e-4)


def test_fine_search_reports_missing_memory() -> None:
    with pytest.raises(OutOfMemoryError, match="raise --max-memory"):
        search_fine_maps(context_of(fine_of(7), fine_of(7), 1000), points_moved_by(0, 0))


def test_windows_match_slow_reference() -> None:
    source, target = fine_of(8), fine_of(9).in_basis_of(fine_of(8))
    points = GRID.centres() + 20 * torch.rand(len(GRID.centres()), 2, generator=torch.Generator().manual_seed(0)) - 10
    found = windows_at(source, target, points, 1 << 30)
    for number in range(0, len(points), 37):
        x, y = GRID.to_cells(points[number]).tolist()
        x, y = min(max(x, 0), GRID.width - 1), min(max(y, 0), GRID.height - 1)
        steps = range(-RADIUS, RADIUS + 1)
        expected = [
            sum(
                share * float(source.values.flatten(1)[:, number] @ at_cell(target, row, column))
                for row, column, share in corners(x + right, y + down)
            )
            for down in steps
            for right in steps
        ]
        assert found[number].tolist() == pytest.approx(expected, abs=1e-5)


def corners(x: float, y: float) -> list[tuple[int, int, float]]:
    """The four cells around a position, and their bilinear weights."""
    left, top = math.floor(x), math.floor(y)
    return [
        (top + down, left + right, (1 - abs(x - left - right)) * (1 - abs(y - top - down)))
        for down in (0, 1)
        for right in (0, 1)
    ]


def at_cell(fine: FineMap, row: int, column: int) -> Tensor:
    height, width = fine.grid.shape
    return fine.values[:, min(max(row, 0), height - 1), min(max(column, 0), width - 1)]


def test_windows_in_place_are_windows_at_centres() -> None:
    fine = fine_of(10)
    assert torch.allclose(windows_in_place(fine), windows_at(fine, fine, GRID.centres(), 1 << 30), atol=1e-4)


def test_densify_takes_finer_points_and_keeps_confidence() -> None:
    context = context_of(fine_of(11), fine_of(11, (2.0, -1.0)))
    points = points_moved_by(5.0, 1.0)
    on, off = (densify(context, points, points_moved_by(-5.0, -1.0), Densification(refine=each)) for each in Refine)
    assert torch.equal(on.confidence, off.confidence)
    assert (off.flow - torch.tensor((5.0, 1.0))[:, None, None]).abs().max() < 1e-3
    inner = (on.flow - torch.tensor((2.0, -1.0))[:, None, None]).norm(dim=0)[20:-20, 20:-20]
    assert inner.median() < 0.4
