"""Trunks by name, and published weights in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from geomatch.errors import InputError
from geomatch.features.backbones.base import Trunk
from geomatch.features.backbones.joint import PREFIX, JointTrunk, transformer_stages
from geomatch.features.backbones.resnet import ResNet50V2, TorchvisionResNet, fold_batch_norm
from geomatch.features.backbones.timm import NAMESPACE, TimmTrunk, parse_trunk_name
from geomatch.features.backbones.vit import VisionTransformer, vit_state

RESNETS = ("resnet50v2", "resnet50", "resnet101")
TRANSFORMERS = {"vit-tiny": 192, "vit-small": 384, "vit-base": 768}
"""Channels of a token. All have 12 blocks, patches of 16 pixels and 14 x 14 positions."""


def build_trunk(name: str, stages: Sequence[int | str] = (), *, dilated: bool = False) -> Trunk:
    """A trunk with random weights in which ``stages`` can be read.

    Args:
        name: of a ResNet, or of a ResNet and a transformer, as ``resnet50v2+vit-tiny``; or of any network of timm, as
            ``timm:resnet50``, with the stride of overlapping patches as ``timm:vit_small_patch16_224,stride:8``.
        stages: those that will be read; of a transformer only the layers that they need are built.
        dilated: keep the fourth stage of a ResNet, if there is one, at stride 16.

    Raises:
        InputError: for an unknown name or stage.
    """
    if name.startswith(NAMESPACE):
        network, stride = parse_trunk_name(name)
        return TimmTrunk(network, stages, stride=stride)
    first, joined, second = name.partition("+")
    if first not in RESNETS or (joined and second not in TRANSFORMERS):
        raise InputError(
            f"unknown trunk '{name}': the known ones are {', '.join(RESNETS)}, each alone or with one of "
            f"{', '.join(TRANSFORMERS)} as in resnet50v2+vit-tiny, and timm:NAME"
        )
    trunk: Trunk = ResNet50V2() if first == "resnet50v2" else TorchvisionResNet(first, dilated=dilated)
    if joined:
        names = transformer_stages([stage for stage in stages if str(stage).startswith(PREFIX)])
        trunk = JointTrunk(trunk, VisionTransformer(TRANSFORMERS[second], 12, stages=names))
    trunk.check_stages(name, stages)
    return trunk


def load_pretrained(trunk: Trunk, state: Mapping[str, Tensor], origin: str) -> None:
    """Load published weights, with batch-norm statistics, into a trunk.

    state: as torchvision's state dictionaries, GluonCV's resnet50_v2 or timm's transformers, for a joint trunk of both;
    layers that the trunk does not have are ignored. Raises InputError, naming ``origin`` and the first missing or
    misshapen tensor.
    """
    if isinstance(trunk, TimmTrunk):
        trunk.load(state, origin)
        return
    if isinstance(trunk, JointTrunk):
        if "patch_embed.proj.weight" not in state:
            raise InputError(
                f"{origin}: holds no vision transformer: give --init for each of the two trunks, or train on a ResNet "
                "alone (--set trunk=resnet50v2 --set stages=3)"
            )
        load_pretrained(trunk.convolutional, state, origin)
        load_pretrained(trunk.transformer, state, origin)
        return
    target = trunk.network if isinstance(trunk, TorchvisionResNet) else trunk
    wanted = target.state_dict()
    if isinstance(trunk, VisionTransformer):
        known = vit_state(state)
    else:
        known = fold_batch_norm({name.replace("stages.4.0.bn1", "final_bn"): each for name, each in state.items()})
    for name, tensor in wanted.items():
        if name not in known or known[name].shape != tensor.shape:
            found = tuple(known[name].shape) if name in known else "absent"
            raise InputError(
                f"{origin}: does not fit the trunk: '{name}' should be {tuple(tensor.shape)} and is {found}"
            )
    target.load_state_dict({name: known[name] for name in wanted})


def fetch_pretrained(trunk: Trunk) -> None:
    """Give a trunk the weights that timm publishes. Raises InputError if it is not timm's, or they cannot be had."""
    if not isinstance(trunk, TimmTrunk):
        raise InputError("give the weights to start from, --init FILE: only those of timm's networks can be fetched")
    trunk.fetch()
