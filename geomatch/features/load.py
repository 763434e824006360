"""Feature extractors by name, and the trunk inside any weights file."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from geomatch.errors import WeightsError
from geomatch.features.anchornet import AnchorConfig, AnchorNet
from geomatch.features.backbones.base import Trunk
from geomatch.features.backbones.build import build_trunk, load_pretrained
from geomatch.features.backbones.vit import load_vit
from geomatch.features.base import FeatureExtractor
from geomatch.features.introspection import PHI_FEATURES, IntrospectionConfig, IntrospectionNet
from geomatch.features.weights import FORMAT, load_weights, read_tensors, read_weights_file, rebuild_network
from geomatch.io.inputs import Input, InputFile
from geomatch.options import Precision
from geomatch.registry import FEATURES
from geomatch.runtime.device import find_precision, warn_if_slow


def load_features(
    name: str,
    *,
    working_size: int,
    device: torch.device,
    weights: Input | None = None,
    precision: Precision = Precision.float32,
) -> FeatureExtractor:
    """Make an extractor that is ready to use.

    Its name in `geomatch.registry.FEATURES`, or in the entry points ``geomatch.features`` of an installed package,
    stands for a function ``load(argument, working_size, device, weights)``.

    Args:
        name: NAME or NAME:ARGUMENT. ``anchornet:cat`` has one class's anchors alone, ``anchornet:auto`` those of
            each pair's class, in a benchmark; ``introspection:1+0.8`` and ``combined:1+0.8`` are extracted at these
            shares of the working size; ``hypercolumn:2+3`` (the default) stacks these stages.
        working_size: the longer side, in pixels, that images are resized to.
        device: where to compute.
        weights: a weights file of geomatch, or for hypercolumns of any known trunk; None takes the shipped one.
        precision: of the trunks' arithmetic.

    Raises:
        InputError: for an unknown name or argument, weights for features that have none, or a missing library.
        WeightsError: for weights that cannot be used.
    """
    kind, _, argument = name.partition(":")
    if isinstance(weights, InputFile) and FEATURES.canonical(kind) not in FEATURES.entries:
        weights = weights.path  # a plug-in reads it in its own way
    extractor = FEATURES.make(kind, FeatureExtractor, argument, working_size, device, weights)  # type: ignore[type-abstract]
    warn_if_slow(precision, device)
    native = find_precision(precision, device) == torch.bfloat16
    extractor.compute_in(Precision.bfloat16 if native else Precision.float32)
    return extractor


def pretrained_trunk(source: Input) -> tuple[str, Trunk]:
    """The name and the trunk in a weights file of geomatch, or in a published trunk's. Raises WeightsError."""
    file = read_weights_file(source)
    state, about = read_tensors(file)
    if about.get("format") == FORMAT:
        weights = load_weights(file)
        network: AnchorNet | IntrospectionNet
        if weights.feature == "anchornet":
            network = rebuild_network(weights, "anchornet", AnchorConfig, AnchorNet)
        else:
            feature = weights.feature if weights.feature in PHI_FEATURES else "introspection"
            network = rebuild_network(weights, feature, IntrospectionConfig, IntrospectionNet)
        return network.config.trunk, network.trunk
    if "patch_embed.proj.weight" in state:
        return "vit", load_vit(state, str(file))
    name = _recognise(state, file)
    trunk = build_trunk(name)
    load_pretrained(trunk, state, str(file))
    return name, trunk


def _recognise(state: Mapping[str, Tensor], file: InputFile) -> str:
    """The name of a published trunk, from the names of its tensors."""
    if "stem.conv.weight" in state:
        return "resnet50v2"
    if "layer3.0.conv1.weight" in state:
        return "resnet101" if "layer3.22.conv1.weight" in state else "resnet50"
    raise WeightsError(
        f"{file}: holds no trunk geomatch knows (resnet50v2, torchvision's resnet50 or resnet101, or timm's vit)"
    )
