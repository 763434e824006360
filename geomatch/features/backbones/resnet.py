"""Residual trunks: ResNet-50 v2 up to stage 3, and torchvision's ResNets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomatch.features.backbones.base import ChannelAffine, Trunk
from geomatch.features.backbones.torchvision import import_torchvision_models

BATCH_NORM_EPSILON = 1e-5
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def fold_batch_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fold batch-norm statistics into the layer's affine weights: w / sqrt(v + eps), b - m w / sqrt(v + eps).

    Other tensors are only converted to float32.
    """
    folded = {name: tensor.float() for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    for name in [name for name in folded if name.endswith(".running_var")]:
        layer = name.removesuffix("running_var")
        scale = folded[layer + "weight"] * (folded.pop(name) + BATCH_NORM_EPSILON).rsqrt()
        folded[layer + "bias"] = folded[layer + "bias"] - folded.pop(layer + "running_mean") * scale
        folded[layer + "weight"] = scale
    return folded


class _Standardise(nn.Module):
    """Colours less ImageNet's mean, over its deviation; constants on the network's device, which the file lacks."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.deviation = nn.Buffer(torch.tensor(IMAGENET_DEVIATION).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.deviation


class _PreActivationUnit(nn.Module):
    """Bottleneck of ResNet v2 (He et al., ECCV 2016): normalise and rectify before each convolution."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.bn1 = ChannelAffine(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn2 = ChannelAffine(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn3 = ChannelAffine(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        first = inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if first else None

    def forward(self, x: Tensor, activated: Tensor) -> Tensor:
        """activated: relu(bn1(x)), which the caller also reads as the output of the previous stage."""
        y = self.conv1(activated)
        y = self.conv2(F.relu(self.bn2(y)))
        y = self.conv3(F.relu(self.bn3(y)))
        past = x if self.shortcut is None else self.shortcut(activated)
        return torch.add(y, past)


_UNITS_OF_STAGE = {1: 3, 2: 4, 3: 6}


class ResNet50V2(Trunk):
    """ResNet-50 v2 up to stage 3; a stage is read after the pre-activation that follows its last unit."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = {1: 256, 2: 512, 3: 1024}
        self.strides = {1: 4, 2: 8, 3: 16}
        self.offsets = dict.fromkeys(self.strides, 0.0)
        self.standardise = _Standardise()
        self.stem = nn.ModuleDict(
            {
                "input_bn": ChannelAffine(3),
                "conv": nn.Conv2d(3, 64, 7, 2, padding=3, bias=False),
                "bn": ChannelAffine(64),
            }
        )
        self.stages = nn.ModuleDict()
        inputs = 64
        for stage, units in _UNITS_OF_STAGE.items():
            outputs = self.channels[stage]
            self.stages[str(stage)] = nn.ModuleList(
                _PreActivationUnit(outputs if unit else inputs, outputs // 4, stride=2 if stage > 1 and not unit else 1)
                for unit in range(units)
            )
            inputs = outputs
        self.final_bn = ChannelAffine(inputs)

    def forward(self, images: Tensor, stages: Sequence[int]) -> dict[int, Tensor]:
        x = self.stem["input_bn"](self.standardise(images))
        x = F.relu(self.stem["bn"](self.stem["conv"](x)))
        x = F.max_pool2d(x, 3, 2, padding=1)
        taps: dict[int, Tensor] = {}
        for stage in _UNITS_OF_STAGE:
            for index, unit in enumerate(self._units(stage)):
                activated = F.relu(unit.bn1(x))
                if index == 0 and stage - 1 in stages:
                    taps[stage - 1] = activated
                    if stage > max(stages):
                        return taps
                x = unit(x, activated)
        taps[3] = F.relu(self.final_bn(x))
        return taps

    def _units(self, stage: int) -> list[_PreActivationUnit]:
        return cast("list[_PreActivationUnit]", self.stages[str(stage)])


class TorchvisionResNet(Trunk):
    """torchvision's ResNet-50 or -101, optionally with its last stage at stride 16, dilated by 2.

    The dilated form is Probabilistic Introspection's: "the last stage's stride is 1 and its 3x3 convolutions are
    dilated by 2" (Novotny et al., CVPR 2018, section 4), 14 x 14 x 2048 at 224 x 224.
    """

    def __init__(self, name: str, *, dilated: bool) -> None:
        super().__init__()
        build = getattr(import_torchvision_models(), name)
        network = build(weights=None, norm_layer=ChannelAffine, replace_stride_with_dilation=[False, False, dilated])
        if dilated:
            for block in network.layer4:
                block.conv2.dilation = block.conv2.padding = (2, 2)
        del network.fc, network.avgpool
        self.channels = {1: 256, 2: 512, 3: 1024, 4: 2048}
        self.strides = {1: 4, 2: 8, 3: 16, 4: 16 if dilated else 32}
        self.offsets = dict.fromkeys(self.strides, 0.0)
        self.standardise = _Standardise()
        self.network = network

    def forward(self, images: Tensor, stages: Sequence[int]) -> dict[int, Tensor]:
        net = self.network
        x = net.maxpool(net.relu(net.bn1(net.conv1(self.standardise(images)))))
        taps: dict[int, Tensor] = {}
        for stage in range(1, max(stages) + 1):
            x = getattr(net, f"layer{stage}")(x)
            if stage in stages:
                taps[stage] = x
        return taps
