"""Networks of timm as trunks and as features, against timm's own forward passes."""

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from geomatch.errors import InputError, WeightsError
from geomatch.features.backbones.build import build_trunk
from geomatch.features.backbones.timm import TimmTrunk, import_timm, parse_trunk_name
from geomatch.features.backbones.vit import VisionTransformer, vit_state
from geomatch.features.base import draw_on_canvas
from geomatch.features.load import load_features
from geomatch.features.timm import Part, parse_parts
from tests.features.test_extractors import photograph

pytestmark = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")

CPU = torch.device("cpu")


def network_of(name: str, **options: Any) -> Any:
    """A network of timm with random weights and statistics, as timm makes it."""
    torch.manual_seed(0)
    network = import_timm().create_model(name, **options).eval().requires_grad_(requires_grad=False)
    for key, tensor in network.state_dict().items():
        if "running_" in key or (tensor.dtype == torch.float32 and tensor.ndim == 1):
            tensor.uniform_(0.5, 1.5)
    if getattr(network, "pos_embed", None) is not None:
        network.pos_embed.normal_()
    return network


def standardised(network: Any, images: Tensor) -> Tensor:
    mean, deviation = (torch.tensor(network.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    return (images - mean) / deviation


def trunk_like(network: Any, name: str, stages: Sequence[int | str] = (), stride: int | None = None) -> TimmTrunk:
    trunk = TimmTrunk(name, stages, stride=stride)
    trunk.load(network.state_dict(), "state")
    return trunk.eval()


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("swin_tiny_patch4_window7_224", (1, 3)),
        ("test_convnext", (0, 2, 3)),
        ("resnet18", (1, 3, 4)),
        ("test_efficientnet", (1, 2, 4)),
    ],
)
def test_timm_pyramid_equals_timms_own_features(name: str, stages: tuple[int, ...]) -> None:
    """Bit for bit, with the classifier's weights in the file."""
    network = network_of(name)
    images = torch.rand(2, 3, 224, 224)
    features = import_timm().create_model(name, features_only=True, out_indices=stages).eval()
    own = features.state_dict()
    features.load_state_dict(
        {key: network.state_dict().get(key, value) for key, value in renamed(own, network).items()}
    )
    with torch.inference_mode():
        expected = features(standardised(network, images))
        found = trunk_like(network, name, stages)(images, stages)
    for stage, values in zip(stages, expected, strict=True):
        channels = found[stage].shape[1]
        assert torch.equal(found[stage], values if values.shape[1] == channels else values.permute(0, 3, 1, 2))


def renamed(own: dict[str, Tensor], network: Any) -> dict[str, Tensor]:
    """The weights of timm's feature network, whose stages have names of their own, filled from the whole network."""
    known = network.state_dict()
    return {key: known.get(key, known.get(key.replace("_", ".", 1), value)) for key, value in own.items()}


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("test_vit", (160, 160)),  # its own size
        ("vit_small_patch14_reg4_dinov2", (84, 126)),  # positions are interpolated from 37 x 37
        ("test_vit", (96, 144)),
        ("vit_small_patch16_dinov3", (64, 96)),
    ],
)
def test_timm_transformer_equals_timms_own_pass(name: str, size: tuple[int, int]) -> None:
    """Of a network that timm makes for this very size: tokens, normalised tokens, queries, keys and values."""
    network = network_of(name, **({} if "dinov3" in name else {"img_size": size}))
    trunk = TimmTrunk(name, [2, "3n", "3k"])
    whole = network_of(name)
    trunk.load(whole.state_dict(), "state")
    rename = import_module(type(network).__module__).checkpoint_filter_fn
    network.load_state_dict(rename(dict(whole.state_dict()), network))
    images = torch.rand(1, 3, *size)
    stages: list[int | str] = [1, 2, "3n", "3q", "3k", "3v"]
    with torch.inference_mode():
        x = standardised(network, images)
        found = trunk(images, stages)
        expected = network.forward_intermediates(x, indices=[1, 2], intermediates_only=True)
        normed = network.forward_intermediates(x, indices=[3], norm=True, intermediates_only=True)[0]
        inputs: list[Tensor] = []
        handle = network.blocks[3].attn.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
        network.forward_features(x)
        handle.remove()
        attention = network.blocks[3].attn
        projected = F.linear(inputs[0], attention.qkv.weight, attention.qkv.bias)[:, network.num_prefix_tokens :]
    assert torch.equal(found[1], expected[0])
    assert torch.equal(found[2], expected[1])
    torch.testing.assert_close(found["3n"], normed, atol=1e-5, rtol=1e-5)
    for stage, values in zip(("3q", "3k", "3v"), projected.chunk(3, dim=2), strict=True):
        torch.testing.assert_close(found[stage].flatten(2).mT, values, atol=1e-5, rtol=1e-5)


def tiny_transformers(stride: int) -> tuple[VisionTransformer, TimmTrunk]:
    """geomatch's own transformer and timm's, with the same weights, three blocks each."""
    network = network_of("vit_tiny_patch16_224", depth=3)
    own = VisionTransformer(192, 3, stride=stride)
    known = vit_state(network.state_dict())
    own.load_state_dict({key: known[key] for key in own.state_dict()})
    deep = network_of("vit_tiny_patch16_224")
    deep.load_state_dict(network.state_dict(), strict=False)
    return own, trunk_like(deep, "vit_tiny_patch16_224", [1, "2k"], stride=stride)


@pytest.mark.parametrize(("stride", "size"), [(16, (224, 224)), (8, (70, 100)), (4, (33, 48))])
def test_timm_transformer_equals_geomatchs_own(stride: int, size: tuple[int, int]) -> None:
    own, trunk = tiny_transformers(stride)
    assert (trunk.strides[1], trunk.offsets[1]) == (own.strides[1], own.offsets[1])
    images = torch.rand(2, 3, *size)
    with torch.inference_mode():
        expected, found = own(images, [1, "2k"]), trunk(images, [1, "2k"])
    for stage, values in expected.items():
        torch.testing.assert_close(found[stage], values, atol=1e-4, rtol=1e-4)


def field_centre(trunk: TimmTrunk, stage: int | str, side: int) -> tuple[list[float], list[float]]:
    """The middle of the pixels that a cell depends on, along y and x, and where the trunk says that it is."""
    trunk = trunk.double()
    seen = torch.zeros(side, side, dtype=torch.bool)
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        images = torch.rand(1, 3, side, side, dtype=torch.float64, generator=generator).requires_grad_()
        output = trunk(images, [stage])[stage]
        row, column = output.shape[2] // 2, output.shape[3] // 2 + 1
        (
            output[0, :, row, column] * torch.randn(output.shape[1], dtype=torch.float64, generator=generator)
        ).sum().backward()
        assert images.grad is not None
        seen |= (images.grad[0] != 0).any(dim=0)
    middles = []
    for axis in (1, 0):
        along = seen.any(dim=axis).nonzero()[:, 0]
        assert 0 < along[0] <= along[-1] < side - 1, "the image should be larger than the field"
        middles.append(float(along[0] + along[-1]) / 2)
    return middles, [trunk.offsets[stage] + trunk.strides[stage] * index for index in (row, column)]


@pytest.mark.parametrize(
    ("name", "stage", "side", "offset"),
    [
        ("resnet18", 2, 224, 0),
        ("test_convnext", 1, 256, 3.5),
        ("test_efficientnet", 2, 192, 0),
        ("tf_efficientnet_b0", 1, 128, 3),  # TensorFlow pads at the end
        ("swin_tiny_patch4_window7_224", 2, 128, 7.5),
        ("resnetv2_50x1_bit", 1, 96, 0),  # pads on its own before pooling
    ],
)
def test_timm_pyramid_cells_are_centred_on_their_pixels(name: str, stage: int, side: int, offset: float) -> None:
    """Gradients, with what looks at the whole image or at a window switched off, reach as far on either side."""
    trunk = TimmTrunk(name, [stage]).requires_grad_(requires_grad=False)
    assert trunk.offsets[stage] == offset
    for module_name, module in trunk.named_modules():
        if module_name.endswith(".se") or isinstance(module, torch.nn.GroupNorm):
            module.forward = lambda x: x
        if module_name.endswith((".attn.proj", ".norm")) and hasattr(module, "weight") and "swin" in name:
            torch.nn.init.zeros_(module.weight) if module_name.endswith("proj") else torch.nn.init.ones_(module.weight)
    middles, expected = field_centre(trunk, stage, side)
    assert middles == expected


@pytest.mark.parametrize(
    ("name", "stride", "side", "offset"),
    [
        ("test_vit", None, 96, 7.5),
        ("test_vit", 4, 96, 4 - 8.5),
        ("vit_small_patch14_reg4_dinov2", None, 98, 6.5),
        ("vit_small_patch14_reg4_dinov2", 7, 98, 7 - 7.5),
    ],
)
def test_timm_patches_are_centred_on_their_pixels(name: str, stride: int | None, side: int, offset: float) -> None:
    """The keys of the first block depend on one patch each."""
    trunk = TimmTrunk(name, ["0k"], stride=stride).requires_grad_(requires_grad=False)
    assert trunk.offsets["0k"] == offset
    middles, expected = field_centre(trunk, "0k", side)
    assert middles == expected


def test_timm_trunk_of_any_size_has_a_cell_every_stride() -> None:
    for name, stride, stage in (("test_vit", 8, 2), ("test_convnext", None, 3), ("test_resnet", None, 2)):
        trunk = TimmTrunk(name, [stage], stride=stride).eval()
        for height, width in ((64, 80), (33, 47), (5, 200)):
            with torch.inference_mode():
                cells = trunk(torch.rand(1, 3, height, width), [stage])[stage]
            step = trunk.strides[stage]
            assert cells.shape == (1, trunk.channels[stage], -(-height // step), -(-width // step))


def test_timm_trunk_has_only_what_its_stages_need() -> None:
    trunk = TimmTrunk("test_vit", [1, "2k"])
    assert {key.split(".")[3] for key in trunk.state_dict() if ".blocks." in key} == {"0", "1", "2"}
    assert not any("head" in key for key in trunk.state_dict())


def test_timm_trunk_keeps_its_statistics_in_training() -> None:
    trunk = TimmTrunk("test_resnet", [2]).train()
    before = {key: value.clone() for key, value in trunk.state_dict().items()}
    trunk(torch.rand(2, 3, 64, 64), [2])[2].sum().backward()
    assert all(torch.equal(value, before[key]) for key, value in trunk.state_dict().items())
    assert any(parameter.grad is not None for parameter in trunk.parameters())


@cache
def weights_file(folder: Path, name: str) -> Path:
    path = folder / f"{name}.safetensors"
    save_file(network_of(name).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("weights")
    return lambda name: weights_file(folder, name)


def test_timm_features_of_several_parts(weights: Callable[[str], Path]) -> None:
    """The cosine of the descriptors is the mean of the parts' cosines, by their squared weights."""
    names = "test_vit@2,weight:2", "test_vit@4:key"
    file = weights("test_vit")
    joined = load_features("timm:" + "+".join(names), working_size=96, device=CPU, weights=file)(photograph(60, 90))
    own = [
        load_features(f"timm:{name}", working_size=96, device=CPU, weights=file)(photograph(60, 90)) for name in names
    ]
    first, second = (each.descriptors.flatten(1).mT @ each.descriptors.flatten(1) for each in own)
    both = joined.descriptors.flatten(1)
    torch.testing.assert_close(both.mT @ both, (4 * first + second) / 5)
    assert joined.grid == own[0].grid == own[1].grid


def test_timm_features_are_read_on_the_finest_grid(weights: Callable[[str], Path]) -> None:
    file = weights("test_vit")
    found = load_features("timm:test_vit@2+test_vit@3,stride:8", working_size=96, device=CPU, weights=file)(
        photograph(60, 90)
    )
    alone = load_features("timm:test_vit@3,stride:8", working_size=96, device=CPU, weights=file)(photograph(60, 90))
    assert found.grid == alone.grid
    torch.testing.assert_close(found.descriptors[64:] * 2**0.5, alone.descriptors)


def test_timm_features_without_positions(weights: Callable[[str], Path]) -> None:
    """Debiased descriptors have nothing in the directions that the cells of a black image vary along most."""
    file = weights("test_vit")
    extractor = load_features("timm:test_vit@3,debias:7", working_size=96, device=CPU, weights=file)
    found = extractor(photograph(60, 90)).descriptors.flatten(1)
    plain = load_features("timm:test_vit@3", working_size=96, device=CPU, weights=file)
    black = plain(torch.zeros(3, 96, 96, dtype=torch.uint8)).descriptors.flatten(1)
    covariance = torch.cov(black)
    directions = torch.linalg.eigh(covariance).eigenvectors[:, -7:]
    assert (directions.mT @ found).abs().max() < 1e-3
    kept = plain(photograph(60, 90)).descriptors.flatten(1)
    kept = kept - directions @ (directions.mT @ kept)
    torch.testing.assert_close(found, F.normalize(kept, dim=0), atol=1e-3, rtol=1e-3)


def test_timm_features_last_block_is_the_default(weights: Callable[[str], Path]) -> None:
    file = weights("test_vit")
    last, named = (
        load_features(name, working_size=64, device=CPU, weights=file)(photograph(40, 60))
        for name in ("timm:test_vit", "timm:test_vit@5")
    )
    assert torch.equal(last.descriptors, named.descriptors)


def test_timm_convolutional_features_have_a_fine_map(weights: Callable[[str], Path]) -> None:
    found = load_features("timm:test_resnet@3", working_size=96, device=CPU, weights=weights("test_resnet"))
    assert found(photograph(60, 90)).fine is not None


def test_timm_fetches_the_weights_that_are_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked for with a file; by name alone timm is, and its weights decide the checksum."""
    timm = import_timm()
    create, asked = timm.create_model, []

    def published(name: str, *, pretrained: bool = False, **options: Any) -> Any:
        asked.append((name, pretrained))
        network = create(name, **options)
        if pretrained:
            network.load_state_dict(network_of(name, num_classes=0).state_dict())
        return network

    monkeypatch.setattr(timm, "create_model", published)
    found = load_features("timm:test_vit.r160_in1k@2", working_size=64, device=CPU)
    assert ("test_vit.r160_in1k", True) in asked
    trunk = trunk_like(network_of("test_vit", num_classes=0), "test_vit", [2])
    canvas, pixels = draw_on_canvas(photograph(40, 64), trunk, 64)
    expected = F.normalize(canvas.crop(trunk.read(pixels, [2], found.arithmetic)[2][0], 16, 7.5), dim=0)
    torch.testing.assert_close(found(photograph(40, 64)).descriptors, expected)
    again = load_features("timm:test_vit.r160_in1k@2", working_size=64, device=CPU)
    assert found.weights_sha256 == again.weights_sha256
    assert len(found.weights_sha256 or "") == 64


def test_timm_without_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = import_timm()
    create = timm.create_model

    def offline(name: str, *, pretrained: bool = False, **options: Any) -> Any:
        if pretrained:
            raise OSError("Name or service not known\nhuggingface.co")
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(WeightsError, match=r"timm:test_vit: its weights are not.* --weights .*\(Name or service not k"):
        load_features("timm:test_vit@2", working_size=64, device=CPU)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("test_vitt", r"timm has no network 'test_vitt' \(did you mean 'test_vit'\?\)"),
        ("test_vit.r16_in1k", r"unknown weights .*'test_vit.r16_in1k' \(did you mean 'test_vit.r160_in1k'\?\)"),
        ("test_vit@6", "timm:test_vit has no stage 6: it has 0 to 5"),
        ("test_resnet@3:key", "stage 3 has no facet key; it has token"),
        ("test_vit@3:keys", "facets are token, norm, query, key, value"),
        ("test_vit:key", "name the block of the key, as test_vit@9:key"),
        ("test_vit,stride:5", "stride must divide the patches' side, 16, and is 5"),
        ("test_vit,stride:x", "write NAME"),
        ("test_vit,stride:1.5", "stride and debias are whole numbers"),
        ("test_vit,size:3", "the options are stride:N, debias:N and weight:X"),
        ("test_vit,weight:0", "weight:X, larger than 0"),
        ("test_convnext,stride:16", "only a transformer's patches can overlap"),
        ("test_vit,debias:64", "debias must leave some of the 64 channels, and is 64"),
        ("test_vit+test_resnet", "of one network, and these are 2"),
        ("beit_base_patch16_224@3", "reads images of one size only"),
        ("", "write NAME"),
    ],
)
def test_timm_features_errors(name: str, said: str, weights: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match=said):
        load_features(f"timm:{name}", working_size=64, device=CPU, weights=weights("test_vit"))


def test_timm_weights_of_another_network_are_refused(weights: Callable[[str], Path], tmp_path: Path) -> None:
    for name, file in product(("test_vit2", "test_resnet"), (weights("test_convnext"),)):
        with pytest.raises(
            WeightsError, match=rf"test_convnext\.safetensors: no weights of timm:{name}.*'.*' should be"
        ):
            load_features(f"timm:{name}@1", working_size=64, device=CPU, weights=file)
    torch.save({"model": torch.nn.Linear(2, 2)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth: holds more than tensors"):
        load_features("timm:test_vit@1", working_size=64, device=CPU, weights=tmp_path / "w.pth")


def test_timm_names_are_parsed() -> None:
    assert parse_parts("a.b-c@9:key,stride:7,debias:20,weight:0.5") == [Part("a.b-c", "9k", 7, 20, 0.5)]
    assert parse_trunk_name("timm:vit,stride:8") == ("vit", 8)
    assert parse_trunk_name("timm:vit") == ("vit", None)
    trunk = build_trunk("timm:test_vit,stride:8", ["2k"])
    assert trunk.strides["2k"] == 8
    with pytest.raises(InputError, match="trunk 'timm:vit,stride:a': write the stride"):
        build_trunk("timm:vit,stride:a")


@pytest.mark.realdata
def test_timm_vit_tiny_equals_the_built_in_one_with_real_weights(real_data: Path) -> None:
    weights = real_data.parent / "weights-init" / "vit-tiny-patch16-imagenet.safetensors"
    if not weights.is_file():
        pytest.skip("the initial weights are not here")
    names = "hypercolumn:7+8k", "timm:vit_tiny_patch16_224@7,stride:8+vit_tiny_patch16_224@8:key,stride:8"
    own, timms = (
        load_features(name, working_size=224, device=CPU, weights=weights)(photograph(150, 200)) for name in names
    )
    assert own.grid == timms.grid
    torch.testing.assert_close(own.descriptors, timms.descriptors, atol=1e-5, rtol=1e-5)
