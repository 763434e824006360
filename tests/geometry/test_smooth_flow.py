import numpy as np
import pytest
import torch

from geomatch.correspondence import Correspondence
from geomatch.errors import InputError
from geomatch.geometry.banded import ACROSS, BEND_ACROSS, BEND_DOWN, DOWN, TWIST, Lattice, Stencil
from geomatch.geometry.region import calm_region, feather, guided_filter
from geomatch.geometry.smooth_flow import Smoothing, fit_smooth_flow, triangle_areas
from geomatch.options import Beyond

SIZE, TARGET = (42, 60), (80, 100)
ROW, COLUMN = np.indices(SIZE)


def affine_flow(matrix: list[list[float]], shift: tuple[float, float]) -> np.ndarray:
    pixels = np.stack((COLUMN, ROW)).astype(np.float64)
    moved = np.einsum("ij,jhw->ihw", np.array(matrix), pixels) + np.array(shift)[:, None, None]
    return (moved - pixels).astype(np.float32)


def everywhere(value: float = 1.0) -> np.ndarray:
    return np.full(SIZE, value, np.float32)


STENCILS = (ACROSS, DOWN, BEND_ACROSS, BEND_DOWN, TWIST)


def differences(stencil: Stencil, maps: np.ndarray) -> np.ndarray:
    """The differences of maps (..., h, w) at all first points at which a stencil fits."""
    height, width = (maps.shape[-2 + axis] - max(step[axis] for step in stencil) for axis in (0, 1))
    return sum(factor * maps[..., row : row + height, column : column + width] for row, column, factor in stencil)


@pytest.mark.parametrize(("height", "width"), [(5, 7), (7, 5), (4, 4)])
def test_minimise_solves_the_normal_equations(height: int, width: int) -> None:
    """Against a dense solver, with the band along either axis."""
    random = np.random.default_rng(height)
    lattice, size = Lattice(height, width), height * width
    units = lattice.maps(np.eye(size))
    rows = [differences(stencil, units) for stencil in STENCILS]
    terms = [(stencil, random.uniform(0.1, 2, each.shape[1:])) for stencil, each in zip(STENCILS, rows, strict=True)]
    energy = sum(np.einsum("ihw,hw,jhw->ij", each, term[1], each) for each, term in zip(rows, terms, strict=True))
    weights, wanted = random.uniform(0.1, 1, size), random.normal(size=(size, 2))
    expected = np.linalg.solve(energy + np.diag(weights), weights[:, None] * wanted)
    np.testing.assert_allclose(lattice.minimise(lattice.energy(terms), weights, wanted), expected, atol=1e-9)


def test_second_differences_vanish_for_planes_only() -> None:
    row, column = np.indices((5, 6)).astype(float)
    plane, saddle = 2 * column - row + 3, column * row
    assert max(abs(differences(each, plane)).max() for each in STENCILS[2:]) < 1e-12
    assert [abs(differences(each, saddle)).max() for each in STENCILS[2:]] == [0, 0, 1]
    lattice = Lattice(5, 6)
    assert (lattice.maps(lattice.flat(plane[None]))[0] == plane).all()


@pytest.mark.parametrize("matrix", [[[1.2, 0.1], [-0.2, 1.4]], [[-1.1, 0.0], [0.1, 1.0]]])
def test_affine_flow_stays_with_a_third_of_outliers(matrix: list[list[float]]) -> None:
    """Also if it mirrors; the outliers are as confident as the others."""
    truth = affine_flow(matrix, (20 if matrix[0][0] > 0 else 75, 12))
    random = np.random.default_rng(0)
    wrong = np.kron(random.random((7, 10)) < 0.33, np.ones((6, 6), bool))
    given = np.where(wrong, random.uniform(-40, 40, (2, 7, 10)).repeat(6, 1).repeat(6, 2), truth).astype(np.float32)
    fit = fit_smooth_flow(given, everywhere(), np.ones(SIZE, bool), TARGET)
    assert np.quantile(np.hypot(*(fit.flow - truth)), 0.95) < 2
    assert fit.supported(0.025).mean() > 0.6


def test_supported_region_has_no_fold_where_matches_fold() -> None:
    """Two halves that each move into the other."""
    given = affine_flow([[1, 0], [0, 1]], (20, 15))
    given[0, :, :30] += 25
    given[0, :, 30:] -= 25
    fit = fit_smooth_flow(given, everywhere(), np.ones(SIZE, bool), TARGET)
    areas = triangle_areas(fit.flow + np.stack((COLUMN, ROW)))
    inside = fit.supported(0.1)
    whole = inside[1:, 1:] & inside[1:, :-1] & inside[:-1, 1:] & inside[:-1, :-1]
    assert whole.any()
    assert (areas[:, whole] > 0).all()


def test_the_more_confident_of_contradicting_matches_stay() -> None:
    given = affine_flow([[1, 0], [0, 1]], (20, 15))
    given[1, ROW % 6 < 3] += 40
    confidence = np.where(ROW % 6 < 3, 0.3, 0.9).astype(np.float32)
    fit = fit_smooth_flow(given, confidence, np.ones(SIZE, bool), TARGET)
    np.testing.assert_allclose(fit.flow[1], 15, atol=1)


def test_flow_that_is_not_finite_or_without_confidence() -> None:
    given = affine_flow([[1, 0], [0, 1]], (5, 6))
    given[:, 10:20, 10:20] = np.nan
    fit = fit_smooth_flow(given, everywhere(), np.ones(SIZE, bool), TARGET)
    np.testing.assert_allclose(fit.flow[:, 15, 15], (5, 6), atol=0.1)
    nothing = fit_smooth_flow(np.full_like(given, np.nan), everywhere(0), np.zeros(SIZE, bool), TARGET)
    assert np.isfinite(nothing.flow).all()
    assert not nothing.supported(1.0).any()


def test_plate_gives_way_at_edges_of_the_image() -> None:
    """A step of the flow is narrower where it lies on a step of brightness."""
    given = affine_flow([[1, 0], [0, 1]], (10, 10))
    given[1, :, 30:] += 3
    image = np.zeros((3, *SIZE), np.uint8)
    image[:, :, 30:] = 255
    steps = [
        abs(np.diff(fit_smooth_flow(given, everywhere(), np.ones(SIZE, bool), TARGET, each, how).flow[1, 20])).max()
        for each, how in ((None, Smoothing()), (image, Smoothing(edges=20)))
    ]
    assert steps[1] > 1.2 * steps[0]


def test_calm_region_drops_specks_and_follows_the_image() -> None:
    image = np.zeros((3, 100, 120), np.uint8)
    image[:, :, 60:] = 200
    pixels = np.zeros((100, 120), bool)
    pixels[:, 58:] = True
    pixels[:, 58:60] &= np.arange(100)[:, None] % 3 == 0
    pixels[50, 90], pixels[20, 20] = False, True
    expected = np.zeros((100, 120), bool)
    expected[:, 60:] = True
    assert (calm_region(pixels, image) != expected).mean() < 0.01
    assert calm_region(pixels)[50, 90]
    assert not calm_region(pixels)[20, 20]


def test_guided_filter_keeps_a_linear_function_of_its_guide() -> None:
    guide = np.random.default_rng(1).random((20, 30)).astype(np.float32)
    np.testing.assert_allclose(guided_filter(guide, 0.2 + 0.5 * guide, 5, 1e-8), 0.2 + 0.5 * guide, atol=1e-3)


def test_feather_rises_inside_only_and_not_at_the_border() -> None:
    region = np.zeros((30, 40), bool)
    region[:, 20:] = True
    opacity = feather(region, 4)
    assert (opacity[:, :20] == 0).all()
    assert (opacity[:, 28:] == 1).all()
    assert (np.diff(opacity[15, 19:26]) >= 0).all()
    assert 0 < opacity[15, 20] < 0.5
    assert (feather(region, 0) == region).all()


def test_smooth_correspondence_keeps_matches_beyond_its_region() -> None:
    given = affine_flow([[1, 0], [0, 1]], (20, 15))
    given[:, :, 30:] += np.random.default_rng(0).uniform(-30, 30, (2, 42, 30)).astype(np.float32)
    every = torch.ones(SIZE, dtype=torch.bool)
    found = Correspondence(torch.from_numpy(given), torch.from_numpy(everywhere(0.7)), every, SIZE, TARGET)
    smooth, plate = found.smooth(), found.smooth(beyond=Beyond.plate)
    assert torch.equal(smooth.flow[:, ~smooth.valid], found.flow[:, ~smooth.valid])
    assert torch.equal(smooth.flow[:, smooth.valid], plate.flow[:, smooth.valid])
    assert torch.equal(smooth.confidence, found.confidence)
    assert smooth.valid[plate.valid].sum() == smooth.valid.sum() < plate.valid.sum()
    assert 0 < smooth.valid.float().mean() < 1
    with pytest.raises(InputError, match="the image is 60x41 pixels, the source of this match 60x42"):
        found.smooth(torch.zeros(3, 41, 60, dtype=torch.uint8))


def test_smooth_flow_of_few_pixels() -> None:
    found = Correspondence(torch.ones(2, 1, 3), torch.ones(1, 3), torch.ones(1, 3).bool(), (1, 3), (2, 4))
    assert found.smooth().flow.isfinite().all()
