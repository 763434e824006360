"""The learnt features: their frames, and how combined and multi-scale features add up."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from geomatch.errors import InputError
from geomatch.features.anchornet import AnchorConfig, AnchorFeatures, AnchorNet
from geomatch.features.backbones.build import build_trunk
from geomatch.features.combined import CombinedFeatures
from geomatch.features.hypercolumn import HypercolumnFeatures
from geomatch.features.introspection import IntrospectionConfig, IntrospectionFeatures, IntrospectionNet
from geomatch.features.load import load_features
from geomatch.features.multi_scale import MultiScaleFeatures
from geomatch.geometry.grid import read_cells
from geomatch.options import Precision


def photograph(height: int, width: int) -> torch.Tensor:
    """Smooth random colours, the same picture at any size."""
    small = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


@pytest.mark.parametrize("size", [(96, 96), (313, 471), (64, 640), (257, 60)])
def test_hypercolumn_covers_an_image_of_any_size(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    features = HypercolumnFeatures(build_trunk("resnet50v2"), [1, 3], working_size=128)(photograph(*size))
    assert features.image_size == size
    assert features.descriptors.shape[0] == 256 + 1024
    torch.testing.assert_close(features.descriptors.norm(dim=0), torch.ones(features.grid.shape))
    centres = features.grid.centres()
    assert centres.min() >= -0.5
    assert centres[:, 0].max() <= size[1] - 0.5
    assert centres[:, 1].max() <= size[0] - 0.5
    # The margins between the outermost centres and the image's edges are at most a cell.
    assert centres[:, 0].min() <= features.grid.pitch[0]
    assert size[1] - centres[:, 0].max() <= features.grid.pitch[0] + 1


def test_introspection_scales_with_the_image() -> None:
    torch.manual_seed(0)
    extractor = IntrospectionFeatures(IntrospectionNet(IntrospectionConfig(descriptor_size=32)), working_size=128)
    small, large = extractor(photograph(96, 128)), extractor(photograph(192, 256))
    assert small.grid.shape == large.grid.shape
    assert large.grid.pitch == (2 * small.grid.pitch[0], 2 * small.grid.pitch[1])
    similarity = (small.descriptors * large.descriptors).sum(dim=0)
    assert similarity.min() > 0.99


@pytest.fixture
def networks() -> tuple[IntrospectionNet, AnchorNet]:
    """Both networks, with random weights on one trunk."""
    torch.manual_seed(0)
    introspection = IntrospectionNet(IntrospectionConfig(descriptor_size=32))
    anchors = AnchorNet(AnchorConfig(("cat", "dog"), tap_size=16, filters=8, code_size=12))
    anchors.trunk.load_state_dict(introspection.trunk.state_dict())
    return introspection, anchors


def test_combined_cosine_is_the_mean_of_both_cosines(
    networks: tuple[IntrospectionNet, AnchorNet],
) -> None:
    image = photograph(90, 130)
    combined = CombinedFeatures(*networks, working_size=128)(image)
    phi, code = IntrospectionFeatures(networks[0], 128)(image), AnchorFeatures(networks[1], 128)(image)
    assert combined.grid == code.grid
    # Where a cell of the coarser grid is one of the finer, too, nothing is interpolated.
    both = [(y, x) for y in range(0, code.grid.height, 2) for x in range(0, code.grid.width, 2)]
    offset = (phi.grid.origin[0] - code.grid.origin[0]) / code.grid.pitch[0]
    assert offset == round(offset)
    first = round(offset)
    fine = [(y + first, x + first) for y, x in both if y // 2 < phi.grid.height and x // 2 < phi.grid.width]
    coarse = [(y // 2, x // 2) for y, x in both if y // 2 < phi.grid.height and x // 2 < phi.grid.width]

    def cosines(descriptors: torch.Tensor, cells: list[tuple[int, int]]) -> torch.Tensor:
        rows = torch.stack([descriptors[:, y, x] for y, x in cells])
        return rows @ rows.mT

    expected = (cosines(phi.descriptors, coarse) + cosines(code.descriptors, fine)) / 2
    torch.testing.assert_close(cosines(combined.descriptors, fine), expected, atol=1e-5, rtol=0)
    assert combined.inverse_confidence is not None
    assert phi.inverse_confidence is not None
    found = torch.stack([combined.inverse_confidence[y, x] for y, x in fine])
    torch.testing.assert_close(found, torch.stack([phi.inverse_confidence[y, x] for y, x in coarse]))


def test_combined_runs_a_trunk_of_both_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same weights in both trunks, the features are those of two passes, from one."""
    torch.manual_seed(0)
    introspection = IntrospectionNet(IntrospectionConfig(stages=("3",), descriptor_size=16))
    anchors = AnchorNet(AnchorConfig(("cat", "dog"), stages=("1", "2"), tap_size=16, filters=8, code_size=12))
    image = photograph(90, 130)
    passes: list[object] = []
    read = type(anchors.trunk).read
    monkeypatch.setattr(type(anchors.trunk), "read", lambda *given: passes.append(given) or read(*given))
    assert not CombinedFeatures(introspection, anchors, working_size=128).one_trunk
    anchors.trunk.load_state_dict(introspection.trunk.state_dict())
    combined = CombinedFeatures(introspection, anchors, working_size=128)
    found = combined(image)
    assert len(passes) == 1
    combined.one_trunk = False
    expected = combined(image)
    assert len(passes) == 3
    torch.testing.assert_close(found.descriptors, expected.descriptors)
    torch.testing.assert_close(found.inverse_confidence, expected.inverse_confidence)
    assert found.fine is not None
    assert expected.fine is not None
    torch.testing.assert_close(found.fine.values, expected.fine.values)


def test_multi_scale_cosine_is_the_mean_over_scales(
    networks: tuple[IntrospectionNet, AnchorNet],
) -> None:
    image = photograph(90, 130)
    single = [CombinedFeatures(*networks, working_size=size) for size in (128, 96)]
    several = MultiScaleFeatures("combined:1+0.75", single)(image)
    large, small = (extract(image) for extract in single)
    assert several.grid == large.grid
    cells = [(1, 2), (5, 9), (8, 0)]
    coarse = small.grid.to_cells(large.grid.to_pixels(torch.tensor([(x, y) for y, x in cells]).float()))
    rows = torch.stack([large.descriptors[:, y, x] for y, x in cells])
    read = read_cells(small.descriptors[None], coarse[None])[0].mT
    read = read / read.norm(dim=1, keepdim=True)
    found = torch.stack([several.descriptors[:, y, x] for y, x in cells])
    torch.testing.assert_close(found @ found.mT, (rows @ rows.mT + read @ read.mT) / 2, atol=1e-5, rtol=0)
    assert large.inverse_confidence is not None
    assert small.inverse_confidence is not None
    assert several.inverse_confidence is not None
    sigmas = read_cells(small.inverse_confidence[None, None], coarse[None])[0, 0]
    for (y, x), sigma in zip(cells, sigmas, strict=True):
        torch.testing.assert_close(several.inverse_confidence[y, x], (large.inverse_confidence[y, x] + sigma) / 2)


def test_extractors_in_bfloat16_are_close_to_float32(networks: tuple[IntrospectionNet, AnchorNet]) -> None:
    """Every nested extractor computes its trunk in bfloat16; heads and descriptors stay float32."""
    image = photograph(90, 130)
    single = [CombinedFeatures(*networks, working_size=size) for size in (128, 96)]
    several = MultiScaleFeatures("combined:1+0.75", single)
    exact = several(image)
    several.compute_in(Precision.bfloat16)
    nested = [part for each in single for part in (each, each.distilled, each.anchors)]
    assert {each.arithmetic for each in [several, *nested]} == {Precision.bfloat16}
    rounded = several(image)
    assert rounded.descriptors.dtype == torch.float32
    assert not torch.equal(rounded.descriptors, exact.descriptors)
    assert (rounded.descriptors * exact.descriptors).sum(dim=0).min() > 0.99


def test_timm_features_without_timm_name_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"^networks of timm need timm: pip install 'geomatch\[backbones\]'$"):
        load_features("timm:resnet18@3", working_size=64, device=torch.device("cpu"))
