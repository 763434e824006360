"""Fine maps: compression to principal components, their grid, and extractors that have them."""

import torch
import torch.nn.functional as F

from geomatch.features.backbones.build import build_trunk
from geomatch.features.backbones.vit import VisionTransformer
from geomatch.features.base import draw_on_canvas
from geomatch.features.fine_map import COMPONENTS, compress, fine_map, principal_components, with_fine_stage
from geomatch.features.introspection import IntrospectionConfig, IntrospectionFeatures, IntrospectionNet
from geomatch.features.multi_scale import MultiScaleFeatures
from geomatch.geometry.grid import Grid


def random_map(seed: int, channels: int, rank: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    low = torch.randn(channels, rank, generator=generator) @ torch.randn(rank, 12 * 16, generator=generator)
    return low.reshape(channels, 12, 16)


def test_principal_components_hold_variance() -> None:
    """Nearly as much of the variance lies in them as in the same number of eigenvectors."""
    columns = random_map(0, 48, 48).flatten(1) * torch.logspace(1, -2, 48)[:, None]
    basis = principal_components(columns, 6)
    assert torch.allclose(basis.mT @ basis, torch.eye(6), atol=1e-5)
    sample = columns[:, ::8]
    covariance = sample @ sample.mT
    most = torch.linalg.eigvalsh(covariance)[-6:].sum()
    assert 0.99 * most < (basis.mT @ covariance @ basis).trace() <= 1.001 * most


def test_products_across_bases_are_those_of_stages() -> None:
    """Maps that lie in few dimensions lose nothing: cosines between two images are those of the centred channels."""
    grid = Grid.over((96, 128), 12, 16)
    shared = random_map(1, 64, 10)
    first, second = shared, shared.flip(2) * 2 + 1
    a, b = compress(first, grid), compress(second, grid)
    assert a.values.shape == (COMPONENTS, 12, 16)
    centred = (F.normalize(each.flatten(1) - each.flatten(1).mean(1, keepdim=True), dim=0) for each in (first, second))
    x, y = centred
    found = a.values.flatten(1).mT @ b.in_basis_of(a).values.flatten(1)
    assert torch.allclose(found, x.mT @ y, atol=1e-3)


def test_compress_keeps_small_and_flat_maps_finite() -> None:
    for values in (torch.zeros(64, 3, 2), torch.ones(8, 1, 1), torch.randn(8, 2, 2)):
        fine = compress(values, Grid.over((12, 12), *values.shape[1:]))
        assert torch.isfinite(fine.values).all()
        assert fine.values.norm(dim=0).max() <= 1 + 1e-5


def test_fine_map_lies_on_grid_of_stage() -> None:
    trunk = build_trunk("resnet50v2").eval()
    canvas, pixels = draw_on_canvas(torch.zeros(3, 60, 80, dtype=torch.uint8), trunk, 80)
    assert with_fine_stage(trunk, [3]) == [1, 3]
    assert with_fine_stage(trunk, [1, 2]) == [1, 2]
    with torch.inference_mode():
        fine = fine_map(canvas, trunk, trunk(pixels, [1]))
    assert fine is not None
    assert fine.grid == canvas.grid(4)
    assert fine.values.shape[1:] == (15, 20)


def test_fine_map_needs_stage_of_four_pixels() -> None:
    trunk = VisionTransformer(192, 1, stages=[0])
    canvas, _ = draw_on_canvas(torch.zeros(3, 64, 64, dtype=torch.uint8), trunk, 64)
    assert with_fine_stage(trunk, [0]) == [0]
    assert fine_map(canvas, trunk, {}) is None


def test_extractors_leave_out_fine_maps() -> None:
    """Also those that others are made of; everything else stays the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = IntrospectionNet(IntrospectionConfig(stages=("2",), descriptor_size=8))
    image = torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    scales = [IntrospectionFeatures(network, size) for size in (64, 48)]
    several = MultiScaleFeatures("introspection:1+0.75", scales)
    complete = several(image)
    assert scales[1](image).fine is None
    several.leave_out_fine_maps()
    assert complete.fine is not None
    assert several(image).fine is None
    assert torch.equal(several(image).descriptors, complete.descriptors)
