import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.errors import InputError
from geomatch.features.backbones.mobilenet import BATCH_NORM_EPSILON, load_mobilenet

WIDTHS = (3, 4, 5, 6, 4, 5, 6, 4, 5, 6, 4, 5, 6, 7)


def keras_state() -> dict[str, Tensor]:
    """Random weights of a thin MobileNet v1 with the names and axes that Keras gives them."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}

    def layer(kernel: str, norm: str, shape: tuple[int, int, int, int], channels: int) -> None:
        state[kernel] = torch.randn(shape, generator=generator)
        state[f"{norm}/gamma"] = torch.rand(channels, generator=generator) + 0.5
        state[f"{norm}/beta"] = torch.randn(channels, generator=generator) * 0.3
        state[f"{norm}/moving_mean"] = torch.randn(channels, generator=generator) * 0.1
        state[f"{norm}/moving_variance"] = torch.rand(channels, generator=generator) + 0.5

    layer("conv1/kernel", "conv1_bn", (3, 3, 3, WIDTHS[0]), WIDTHS[0])
    for block in range(1, 14):
        inputs, outputs = WIDTHS[block - 1], WIDTHS[block]
        layer(f"conv_dw_{block}/depthwise_kernel", f"conv_dw_{block}_bn", (3, 3, inputs, 1), inputs)
        layer(f"conv_pw_{block}/kernel", f"conv_pw_{block}_bn", (1, 1, inputs, outputs), outputs)
    return state


def literal_mobilenet(images: Tensor, state: dict[str, Tensor]) -> list[Tensor]:
    """Blocks 1-11 as published, with Keras' padding: nothing at the left and top, one pixel at the right and bottom."""

    def activate(x: Tensor, norm: str) -> Tensor:
        keys = ("moving_mean", "moving_variance", "gamma", "beta")
        x = F.batch_norm(x, *(state[f"{norm}/{key}"] for key in keys), training=False, eps=BATCH_NORM_EPSILON)
        return x.clamp(0, 6)

    def pad(x: Tensor, stride: int) -> Tensor:
        return F.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))

    x = activate(
        F.conv2d(pad(images * 255 / 127.5 - 1, 2), state["conv1/kernel"].permute(3, 2, 0, 1), None, 2), "conv1_bn"
    )
    outputs = []
    for block in range(1, 12):
        stride = 2 if block in (2, 4, 6) else 1
        kernel = state[f"conv_dw_{block}/depthwise_kernel"].permute(2, 3, 0, 1)
        x = F.conv2d(pad(x, stride), kernel, None, stride, groups=len(kernel))
        x = activate(x, f"conv_dw_{block}_bn")
        x = activate(F.conv2d(x, state[f"conv_pw_{block}/kernel"].permute(3, 2, 0, 1)), f"conv_pw_{block}_bn")
        outputs.append(x)
    return outputs


def test_mobilenet_is_the_published_network() -> None:
    """Equal away from the border, on an image shifted as far as Keras' strided kernels look further right and down.

    That is one pixel of each strided layer's input, 1 + 2 + 4 + 8 pixels at stride 16.
    """
    state = keras_state()
    network = load_mobilenet(state, "file")
    image = torch.rand(1, 3, 400, 400, generator=torch.Generator().manual_seed(1))
    expected = literal_mobilenet(image, state)
    with torch.no_grad():
        for block, shift in ((1, 1), (3, 3), (5, 7), (11, 15)):
            stride = network.strides[block]
            found = network(image[:, :, shift:, shift:], [block])[block]
            inner = slice(160 // stride, 240 // stride)
            torch.testing.assert_close(
                found[..., inner, inner], expected[block - 1][..., inner, inner], atol=1e-4, rtol=1e-4
            )


def test_mobilenet_last_blocks_stay_at_stride_16() -> None:
    network = load_mobilenet(keras_state(), "file")
    with torch.no_grad():
        found = network(torch.rand(1, 3, 97, 65), [12, 13])
    assert network.strides[12] == network.strides[13] == 16
    assert {block: tuple(tap.shape) for block, tap in found.items()} == {12: (1, 6, 7, 5), 13: (1, 7, 7, 5)}


def test_load_mobilenet_names_a_file_that_does_not_fit() -> None:
    state = keras_state()
    del state["conv_dw_7_bn/beta"]
    with pytest.raises(InputError, match=r"trunk\.safetensors: not a MobileNet v1.*conv_dw_7_bn/beta"):
        load_mobilenet(state, "trunk.safetensors")
