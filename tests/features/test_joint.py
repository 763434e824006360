"""A convolutional trunk and a transformer as one trunk, and introspection on both."""

import math

import pytest
import torch
import torch.nn.functional as F

from geomatch.errors import InputError
from geomatch.features.anchornet import AnchorConfig, AnchorNet
from geomatch.features.backbones.build import build_trunk, load_pretrained
from geomatch.features.backbones.vit import VisionTransformer
from geomatch.features.introspection import IntrospectionConfig, IntrospectionFeatures, IntrospectionNet
from geomatch.features.weights import load_network, save_weights
from tests.features.test_resnet import published_resnet50v2_state

NAME = "resnet50v2+vit-tiny"
STAGES = (3, "vit1", "vit2k")


def transformer_state() -> dict[str, torch.Tensor]:
    """Random weights of a ViT-Tiny, as timm names them."""
    generator = torch.Generator().manual_seed(2)
    shapes = {name: tensor.shape for name, tensor in VisionTransformer(192, 12).state_dict().items()}
    return {name: torch.randn(shape, generator=generator) / 10 for name, shape in shapes.items()}


def test_joint_trunk_is_its_two_trunks() -> None:
    trunk = build_trunk(NAME, STAGES)
    states = published_resnet50v2_state(), transformer_state()
    load_pretrained(trunk, {**states[0], **states[1]}, "a, b")
    alone, transformer = build_trunk("resnet50v2"), VisionTransformer(192, 12)
    load_pretrained(alone, states[0], "a")
    load_pretrained(transformer, states[1], "b")
    image = torch.rand(1, 3, 48, 64)
    with torch.no_grad():
        found = trunk(image, STAGES)
        expected = {3: alone(image, [3])[3]}
        expected |= {f"vit{stage}": values for stage, values in transformer(image, [1, "2k"]).items()}
    assert list(found) == list(STAGES)
    for stage in STAGES:
        torch.testing.assert_close(found[stage], expected[stage])
    assert [trunk.strides[stage] for stage in STAGES] == [16, 8, 8]
    assert [trunk.offsets[stage] for stage in STAGES] == [0, -0.5, -0.5]


def test_joint_trunk_names_what_is_missing() -> None:
    trunk = build_trunk(NAME, STAGES)
    with pytest.raises(InputError, match="a: holds no vision transformer: give --init for each of the two trunks"):
        load_pretrained(trunk, published_resnet50v2_state(), "a")
    state = transformer_state()
    del state["cls_token"]
    with pytest.raises(InputError, match=r"a: does not fit the trunk: 'cls_token'.*is absent"):
        load_pretrained(trunk, published_resnet50v2_state() | state, "a")


@pytest.mark.parametrize(
    ("name", "stages", "said"),
    [
        ("resnet50v2+vit", [3], "unknown trunk 'resnet50v2\\+vit': .*vit-tiny, vit-small, vit-base"),
        (NAME, [3, "vit12"], "the transformer has no stage 12"),
        (NAME, [4], "has no stage 4"),
        (NAME, ["7"], "has no stage 7"),
    ],
)
def test_build_trunk_errors(name: str, stages: list[int | str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        build_trunk(name, stages)


def test_introspection_reads_stages_at_the_cells_of_the_finest() -> None:
    """By hand: the stage of stride 16 is interpolated at the transformer's cells, 16 k in its own pixels."""
    network = IntrospectionNet(IntrospectionConfig(trunk=NAME, stages=("3", "vit1"), descriptor_size=8))
    for parameter in network.trunk.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    image = torch.rand(1, 3, 64, 80)
    assert (network.stride, network.offset) == (8, -0.5)
    with torch.no_grad():
        columns = network.columns(image)
        taps = network.trunk(image, [3, "vit1"])
    assert columns.shape == (1, 1024 + 192, 8, 10)
    coarse = taps[3][0].double()
    for row, column in ((0, 0), (3, 5), (7, 9)):
        y, x = (min(max((8 * k - 0.5) / 16, 0), n - 1) for k, n in ((row, coarse.shape[1]), (column, coarse.shape[2])))
        top, left = min(int(y), coarse.shape[1] - 2), min(int(x), coarse.shape[2] - 2)
        corners = coarse[:, top : top + 2, left : left + 2]
        upper, lower = (corners[:, k, 0] * (left + 1 - x) + corners[:, k, 1] * (x - left) for k in (0, 1))
        expected = F.normalize(upper * (top + 1 - y) + lower * (y - top), dim=0) * math.sqrt(1024)
        torch.testing.assert_close(columns[0, :1024, row, column].double(), expected, atol=1e-4, rtol=1e-4)
    unit = F.normalize(taps["vit1"], dim=1) * math.sqrt(192)
    torch.testing.assert_close(columns[:, 1024:], unit)


def test_introspection_of_two_trunks_is_saved_and_read(tmp_path) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    network = IntrospectionNet(IntrospectionConfig(trunk=NAME, stages=("3", "vit1k"), descriptor_size=8))
    path = tmp_path / "w.safetensors"
    save_weights(path, "introspection", vars(network.config), network.state_dict())
    again, _ = load_network(path, "introspection", IntrospectionConfig, IntrospectionNet, torch.device("cpu"))
    assert again.config == network.config
    features = IntrospectionFeatures(again, 96)(torch.randint(0, 256, (3, 60, 90), dtype=torch.uint8))
    assert features.descriptors.shape == (8, *features.grid.shape)
    assert features.grid.pitch == (90 / 96 * 8, 90 / 96 * 8)


def test_anchornet_reads_both_trunks_at_its_own_cells() -> None:
    """By hand: each stage's projection, interpolated at pixels 8 k, of unit length, then the banks."""
    network = AnchorNet(AnchorConfig(("cat",), trunk=NAME, stages=("3", "vit1k"), tap_size=8, filters=4, code_size=4))
    image = torch.rand(1, 3, 48, 64)
    with torch.no_grad():
        taps = network.trunk(image, [3, "vit1k"])
        reduced = [tap(taps[stage])[0] for stage, tap in zip((3, "vit1k"), network.taps, strict=True)]
        column = torch.empty(16, 6, 8)
        for row in range(6):
            for col in range(8):
                coarse = interpolated(reduced[0], row / 2, col / 2)
                fine = interpolated(reduced[1], row + 1 / 16, col + 1 / 16)
                column[:, row, col] = torch.cat([F.normalize(coarse, dim=0), F.normalize(fine, dim=0)])
        torch.testing.assert_close(network(image), network.banks(column[None]), rtol=1e-4, atol=1e-5)


def interpolated(values: torch.Tensor, row: float, col: float) -> torch.Tensor:
    """Values (C, h, w) between cells, held beyond the last ones."""
    bottom, right = values.shape[1] - 1, values.shape[2] - 1
    row, col = min(row, bottom), min(col, right)
    top, left = int(row), int(col)
    below, beside = min(top + 1, bottom), min(left + 1, right)
    upper = (1 - col + left) * values[:, top, left] + (col - left) * values[:, top, beside]
    lower = (1 - col + left) * values[:, below, left] + (col - left) * values[:, below, beside]
    return (1 - row + top) * upper + (row - top) * lower
