"""The vision transformer as a trunk."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.errors import InputError
from geomatch.features.backbones.vit import VisionTransformer, load_vit


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
    """The gradient of a patch's embedding is spread over its pixels alone."""
    trunk = VisionTransformer(64, 1, stride=stride)
    torch.nn.init.ones_(trunk.patch_embed["proj"].weight)
    images = torch.zeros(1, 3, 96, 112, requires_grad=True)
    tokens, (height, width) = trunk.embed(images)
    assert (height, width) == (96 // stride, 112 // stride)
    row, column = height // 2, width // 2
    tokens[0, 1 + row * width + column, 0].backward()
    assert images.grad is not None
    weight = images.grad[0].sum(dim=0)
    assert int((weight > 0).sum()) == 16 * 16
    for axis, index in ((1, row), (0, column)):
        along = weight.sum(dim=axis)
        centre = float((along * torch.arange(len(along))).sum() / along.sum())
        assert centre == pytest.approx(trunk.offset + stride * index, abs=1e-4)


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


def test_vit_stride_beyond_the_patch_is_refused() -> None:
    with pytest.raises(InputError, match="between 1 and 16, got 17"):
        VisionTransformer(64, 1, stride=17)
