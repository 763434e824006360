"""The vision transformer as a trunk."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.errors import InputError
from geomatch.features.backbones.vit import VisionTransformer, load_vit, vit_state


def random_vit(stride: int = 8) -> VisionTransformer:
    """Two heads, three blocks, patches of 16 pixels, every weight random."""
    torch.manual_seed(0)
    trunk = VisionTransformer(128, 3, positions=4, stride=stride).requires_grad_(requires_grad=False)
    for parameter in trunk.parameters():
        parameter.normal_(0, 0.05)
    return trunk


def slow_block(state: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """A block's tokens (N, C) and keys (N, C), one head and one token after the other."""

    def norm(name: str, values: Tensor) -> Tensor:
        mean, variance = values.mean(dim=1, keepdim=True), values.var(dim=1, keepdim=True, correction=0)
        return (values - mean) / (variance + 1e-6).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(name: str, values: Tensor) -> Tensor:
        return values @ state[f"{name}.weight"].mT + state[f"{name}.bias"]

    q, k, v = linear("attn.qkv", norm("norm1", x)).split(128, dim=1)
    attended = torch.zeros_like(x)
    for head in (slice(0, 64), slice(64, 128)):
        for token in range(len(x)):
            shares = torch.softmax(k[:, head] @ q[token, head] / math.sqrt(64), dim=0)
            attended[token, head] = shares @ v[:, head]
    x = x + linear("attn.proj", attended)
    hidden = linear("mlp.fc1", norm("norm2", x))
    return x + linear("mlp.fc2", hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2), k


def test_vit_equals_a_slow_computation() -> None:
    """Without overlap, at the size that its positions are for: no interpolation and no mirroring."""
    trunk, image = random_vit(stride=16).double(), torch.rand(1, 3, 64, 64).double()
    found = trunk(image, [0, 2, "1k"])
    state = trunk.state_dict()
    patches = F.unfold(2 * image - 1, 16, stride=16)[0].mT
    x = patches @ state["patch_embed.proj.weight"].flatten(1).mT + state["patch_embed.proj.bias"]
    x = torch.cat((state["cls_token"][0], x)) + state["pos_embed"][0]
    outputs = []
    for index in range(3):
        block = {name.removeprefix(f"blocks.{index}."): each for name, each in state.items()}
        x, keys = slow_block(block, x)
        outputs.append((x, keys))
    for stage, expected in ((0, outputs[0][0]), (2, outputs[2][0]), ("1k", outputs[1][1])):
        torch.testing.assert_close(found[stage][0].flatten(1).mT, expected[1:])


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_vit_patch_is_centred_on_its_cell(stride: int) -> None:
    """With no block between, the gradient of a cell's keys is spread over its patch alone."""
    trunk = VisionTransformer(64, 1, stride=stride, stages=["0k"]).requires_grad_(requires_grad=False)
    torch.nn.init.ones_(trunk.patch_embed["proj"].weight)
    images = torch.zeros(1, 3, 96, 112, requires_grad=True)
    trunk.pos_embed.normal_()  # else layer normalisation has no slope
    keys = trunk(images, ["0k"])["0k"]
    height, width = keys.shape[2:]
    assert (height, width) == (96 // stride, 112 // stride)
    row, column = height // 2, width // 2 + 1
    keys[0, :, row, column].sum().backward()
    assert images.grad is not None
    weight = images.grad[0].sum(dim=0)
    assert int((weight != 0).sum()) == 16 * 16
    for axis, index in ((1, row), (0, column)):
        along = weight.sum(dim=axis)
        centre = float((along * torch.arange(len(along))).sum() / along.sum())
        assert centre == pytest.approx(trunk.offsets["0k"] + stride * index, abs=1e-3)


def test_vit_overlapping_patches_are_plain_vits_side_by_side() -> None:
    """Each lattice of patches equals the ViT without overlap on the image shifted by the lattice's first patch."""
    overlapping, plain = random_vit(stride=8), random_vit(stride=16)
    for trunk in (overlapping, plain):
        trunk.pos_embed.zero_()  # positions are interpolated to different lattices
    image = torch.rand(1, 3, 64, 96)
    found = overlapping(image, [2])[2]
    assert found.shape == (1, 128, 8, 12)
    mirrored = F.pad(image, (8, 0, 8, 0), mode="reflect")
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        shifted = mirrored[:, :, 8 * row : 8 * row + 64, 8 * column : 8 * column + 96]
        torch.testing.assert_close(found[:, :, row::2, column::2], plain(shifted, [2])[2], atol=1e-4, rtol=1e-4)


def test_vit_built_for_stages_has_only_what_they_need() -> None:
    """The same features as of the whole network, and of the last block the keys alone."""
    whole = random_vit()
    trunk = VisionTransformer(128, 3, positions=4, stages=[0, "1k"])
    known = vit_state(whole.state_dict())
    trunk.load_state_dict({name: known[name] for name in trunk.state_dict()})
    names = {name for name in trunk.state_dict() if name.startswith("blocks.1.")}
    assert names == {f"blocks.1.{part}" for part in ("norm1.weight", "norm1.bias", "attn.k.weight", "attn.k.bias")}
    assert list(trunk.channels) == [0, "0k", "1k"]
    image = torch.rand(1, 3, 40, 56)
    expected = whole(image, [0, "1k"])
    for stage, values in trunk(image, [0, "1k"]).items():
        torch.testing.assert_close(values, expected[stage])
    with pytest.raises(InputError, match="the transformer has no stage 3k"):
        VisionTransformer(128, 3, stages=["3k"])


def test_vit_runs_only_the_blocks_that_are_read() -> None:
    trunk = random_vit()
    run = []
    for index, block in enumerate(trunk.blocks):
        block.register_forward_hook(lambda *_, index=index: run.append(index))
    found = trunk(torch.rand(2, 3, 40, 56), ["1k"])
    assert list(found) == ["1k"]
    assert found["1k"].shape == (2, 128, 5, 7)
    assert run == [0], "of the last block only the keys are computed"


def test_vit_weights_without_a_part_are_refused() -> None:
    state = random_vit().state_dict()
    assert load_vit(state | {"head.weight": torch.zeros(3)}, "w").channels[2] == 128
    del state["blocks.1.norm1.weight"]
    with pytest.raises(InputError, match=r"w\.safetensors: not a vision transformer.*blocks\.1\.norm1\.weight"):
        load_vit(state, "w.safetensors")


def test_vit_stride_that_does_not_divide_the_patch_is_refused() -> None:
    for stride in (17, 12, 0):
        with pytest.raises(InputError, match=f"must divide their side, 16, and is {stride}"):
            VisionTransformer(64, 1, stride=stride)
