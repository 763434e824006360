import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.errors import InputError
from geomatch.features.backbones.base import ChannelAffine, Trunk
from geomatch.features.backbones.build import build_trunk, load_pretrained
from geomatch.features.backbones.resnet import BATCH_NORM_EPSILON, fold_batch_norm
from geomatch.features.backbones.torchvision import import_torchvision_models

UNITS = {1: 3, 2: 4, 3: 6}


def published_resnet50v2_state() -> dict[str, Tensor]:
    """Random weights in the layout of the published file: batch-norm statistics, and the start of a fourth stage."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}

    def batch_norm(name: str, channels: int) -> None:
        state[f"{name}.weight"] = torch.rand(channels, generator=generator) + 0.5
        state[f"{name}.bias"] = torch.randn(channels, generator=generator) * 0.1
        state[f"{name}.running_mean"] = torch.randn(channels, generator=generator) * 0.1
        state[f"{name}.running_var"] = torch.rand(channels, generator=generator) + 0.5

    def conv(name: str, outputs: int, inputs: int, size: int) -> None:
        fan_in = inputs * size * size
        state[f"{name}.weight"] = torch.randn(outputs, inputs, size, size, generator=generator) * (2 / fan_in) ** 0.5

    batch_norm("stem.input_bn", 3)
    conv("stem.conv", 64, 3, 7)
    batch_norm("stem.bn", 64)
    inputs = 64
    for stage, units in UNITS.items():
        width = 32 * 2**stage
        for unit in range(units):
            name = f"stages.{stage}.{unit}"
            batch_norm(f"{name}.bn1", inputs)
            conv(f"{name}.conv1", width, inputs, 1)
            batch_norm(f"{name}.bn2", width)
            conv(f"{name}.conv2", width, width, 3)
            batch_norm(f"{name}.bn3", width)
            conv(f"{name}.conv3", 4 * width, width, 1)
            if unit == 0:
                conv(f"{name}.shortcut", 4 * width, inputs, 1)
            inputs = 4 * width
    batch_norm("stages.4.0.bn1", inputs)
    conv("stages.4.0.conv1", 512, inputs, 1)
    return state


def literal_resnet50v2(images: Tensor, state: dict[str, Tensor]) -> dict[int, Tensor]:
    """The published description of the network, line by line, with batch normalisation as such."""

    def bn(x: Tensor, name: str) -> Tensor:
        keys = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(state[f"{name}.{key}"] for key in keys), training=False, eps=BATCH_NORM_EPSILON)

    x = images * 255 - torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    x = bn(x / torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1), "stem.input_bn")
    x = F.relu(bn(F.conv2d(x, state["stem.conv.weight"], stride=2, padding=3), "stem.bn"))
    x = F.max_pool2d(x, 3, 2, 1)
    outputs = {}
    for stage, units in UNITS.items():
        for unit in range(units):
            name, stride = f"stages.{stage}.{unit}", 2 if stage > 1 and unit == 0 else 1
            a = F.relu(bn(x, f"{name}.bn1"))
            y = F.conv2d(a, state[f"{name}.conv1.weight"])
            y = F.conv2d(F.relu(bn(y, f"{name}.bn2")), state[f"{name}.conv2.weight"], stride=stride, padding=1)
            y = F.conv2d(F.relu(bn(y, f"{name}.bn3")), state[f"{name}.conv3.weight"])
            x = y + (F.conv2d(a, state[f"{name}.shortcut.weight"], stride=stride) if unit == 0 else x)
        outputs[stage] = F.relu(bn(x, f"stages.{stage + 1}.0.bn1"))
    return outputs


def test_resnet50v2_is_the_published_network() -> None:
    state = published_resnet50v2_state()
    trunk = build_trunk("resnet50v2")
    load_pretrained(trunk, state, "init")
    trunk.double()
    state = {name: tensor.double() for name, tensor in state.items()}
    images = torch.rand(2, 3, 70, 95, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        found = trunk(images, [1, 2, 3])
        for stage, expected in literal_resnet50v2(images, state).items():
            torch.testing.assert_close(found[stage], expected, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(trunk(images, [2])[2], found[2])
    assert {stage: tuple(found[stage].shape) for stage in found} == {
        1: (2, 256, 18, 24),
        2: (2, 512, 9, 12),
        3: (2, 1024, 5, 6),
    }


@pytest.mark.parametrize("name", ["resnet50", "resnet101"])
def test_torchvision_trunk_is_the_published_network(name: str) -> None:
    torch.manual_seed(0)
    original = getattr(import_torchvision_models(), name)(weights=None)
    for module in original.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    original.eval()
    trunk = build_trunk(name)
    load_pretrained(trunk, original.state_dict(), "init")
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        x = (images - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(
            3, 1, 1
        )
        x = original.maxpool(original.relu(original.bn1(original.conv1(x))))
        x3 = original.layer3(original.layer2(original.layer1(x)))
        found = trunk(images, [3, 4])
        torch.testing.assert_close(found[3], x3, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(found[4], original.layer4(x3), atol=1e-3, rtol=1e-3)


def test_dilated_stage_stays_at_stride_16() -> None:
    trunk = build_trunk("resnet50", dilated=True)
    with torch.no_grad():
        assert trunk(torch.rand(1, 3, 224, 224), [4])[4].shape == (1, 2048, 14, 14)
    kernels = [m for n, m in trunk.named_modules() if "layer4" in n and getattr(m, "kernel_size", 0) == (3, 3)]
    assert [(kernel.stride, kernel.dilation) for kernel in kernels] == [((1, 1), (2, 2))] * 3


@pytest.mark.parametrize(
    ("name", "stage", "side"), [("resnet50v2", 2, 256), ("resnet50v2", 3, 384), ("resnet50", 4, 544)]
)
def test_trunk_receptive_field_is_centred_on_its_cell(name: str, stage: int, side: int) -> None:
    """With equal positive weights everywhere, the gradient of one cell is symmetric about its centre."""
    trunk = build_trunk(name, dilated=True).requires_grad_(False)
    _make_uniform(trunk)
    images = torch.full((1, 3, side, side), 0.9, requires_grad=True)
    output = trunk(images, [stage])[stage]
    row, column = output.shape[2] // 2, output.shape[3] // 2 + 1
    output[0, 0, row, column].backward()
    assert images.grad is not None
    weight = images.grad[0].sum(dim=0).double()
    assert not weight[[0, -1]].any(), "the image should be larger than the field"
    assert not weight[:, [0, -1]].any(), "the image should be larger than the field"
    positions = torch.arange(side, dtype=torch.float64)
    centre_y = float((weight.sum(dim=1) * positions).sum() / weight.sum())
    centre_x = float((weight.sum(dim=0) * positions).sum() / weight.sum())
    stride = trunk.strides[stage]
    # Max-pooling over equal values passes its gradient to the first of them, at most one stem cell off centre.
    assert abs(centre_y - row * stride) <= 2.01
    assert abs(centre_x - column * stride) <= 2.01


def _make_uniform(trunk: Trunk) -> None:
    with torch.no_grad():
        for module in trunk.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.weight.fill_(1 / module.weight[0].numel())
            elif isinstance(module, ChannelAffine):
                module.weight.fill_(1)
                module.bias.fill_(0.1)


def test_fold_batch_norm_keeps_states_without_statistics() -> None:
    state = {"conv.weight": torch.ones(2, 2), "bn.weight": torch.ones(2), "bn.num_batches_tracked": torch.tensor(3)}
    assert set(fold_batch_norm(state)) == {"conv.weight", "bn.weight"}


def test_load_pretrained_names_a_tensor_that_does_not_fit() -> None:
    state = published_resnet50v2_state()
    del state["stages.2.1.conv2.weight"]
    with pytest.raises(InputError, match=r"init\.safetensors.*stages\.2\.1\.conv2\.weight.*absent"):
        load_pretrained(build_trunk("resnet50v2"), state, "init.safetensors")


def test_build_trunk_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="resnet50v2, resnet50, resnet101"):
        build_trunk("vgg16")
