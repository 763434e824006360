"""Feature extractors by name, ``NAME`` or ``NAME:ARGUMENT``: our own, and those that other packages add."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn

from geomatch.errors import InputError, WeightsError
from geomatch.features.anchornet import AnchorConfig, AnchorFeatures, AnchorNet
from geomatch.features.backbones.base import Trunk
from geomatch.features.backbones.resnet import build_trunk, load_pretrained
from geomatch.features.base import FeatureExtractor
from geomatch.features.combined import CombinedFeatures
from geomatch.features.handcrafted.gradients import GradientFeatures
from geomatch.features.handcrafted.hog import HogFeatures
from geomatch.features.handcrafted.sift import SiftFeatures
from geomatch.features.hypercolumn import HypercolumnFeatures
from geomatch.features.introspection import IntrospectionConfig, IntrospectionFeatures, IntrospectionNet
from geomatch.features.multi_scale import MultiScaleFeatures
from geomatch.features.weights import FORMAT, Weights, load_weights, read_safetensors, sha256_of, shipped_weights
from geomatch.registry import FEATURES

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")
Network = TypeVar("Network", bound=nn.Module)


def load_features(
    name: str, *, working_size: int, device: torch.device, weights: Path | None = None
) -> FeatureExtractor:
    """Make an extractor ready to use.

    name: ``introspection``; ``anchornet``, or one class's anchors alone, as in ``anchornet:cat``; ``combined``, both
    together, or at several shares of the working size, as in ``combined:1+0.8``; ``hypercolumn`` with the stages to
    stack, as in ``hypercolumn:2+3`` (the default); or ``sift`` or ``hog``, which have no weights; or what an installed
    package adds under the entry points ``geomatch.features``.
    working_size: the longer side, in pixels, that images are resized to. weights: a file of geomatch's, or for
    hypercolumns any pretrained trunk in safetensors; None takes the shipped ones.

    Raises InputError for an unknown name or argument, for weights where there are none, and for a missing library;
    WeightsError for weights that cannot be used.
    """
    kind, _, argument = name.partition(":")
    return FEATURES.make(kind, FeatureExtractor, argument, working_size, device, weights)  # type: ignore[type-abstract]


def features_of(path: Path) -> str:
    """Which features a weights file of geomatch's is of. Raises WeightsError if it is no such file."""
    about = read_safetensors(path)[1]
    feature = about.get("feature")
    if about.get("format") != FORMAT or not isinstance(feature, str):
        raise WeightsError(f"{path}: does not say which features it is of; name them with --features")
    return feature


def load_introspection(argument: str, working_size: int, device: torch.device, path: Path | None) -> FeatureExtractor:
    _refuse_argument("introspection", argument)
    weights = load_weights(path or shipped_weights("introspection"))
    network = _introspection_network(weights).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return IntrospectionFeatures(network, working_size, weights.sha256)


def load_anchornet(argument: str, working_size: int, device: torch.device, path: Path | None) -> FeatureExtractor:
    weights = load_weights(path or shipped_weights("anchornet"))
    network = _anchor_network(weights).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return AnchorFeatures(network, working_size, weights.sha256, only=argument)


def load_combined(argument: str, working_size: int, device: torch.device, path: Path | None) -> FeatureExtractor:
    shares = _shares(argument or "1")
    if path is not None:
        raise InputError(f"combined features need two weights files, the shipped ones; leave out --weights {path}")
    first, second = (load_weights(shipped_weights(name)) for name in ("introspection", "anchornet"))
    introspection = _introspection_network(first).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    anchors = _anchor_network(second).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    both = f"{first.sha256}+{second.sha256}"
    sizes = [
        CombinedFeatures(introspection, anchors, round(share * working_size), both)
        for share in sorted(shares, reverse=True)
    ]
    return MultiScaleFeatures(f"combined:{argument}", sizes) if argument else sizes[0]


def _shares(argument: str) -> list[float]:
    """Sizes at which an image is described, as shares of the working size."""
    try:
        shares = [float(share) for share in argument.split("+")]
    except ValueError:
        shares = []
    if not shares or not all(0.1 <= share <= 1 for share in shares):
        raise InputError(
            f"combined:{argument}: give shares of the working size, from 0.1 to 1, joined by '+', as combined:1+0.8"
        )
    return shares


def load_hypercolumn(argument: str, working_size: int, device: torch.device, path: Path | None) -> FeatureExtractor:
    try:
        stages = [int(stage) for stage in (argument or "2+3").split("+")]
    except ValueError:
        raise InputError(f"hypercolumn:{argument}: give stages as numbers joined by '+', as hypercolumn:2+3") from None
    path = path or shipped_weights("introspection")
    trunk = pretrained_trunk(path)[1].to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return HypercolumnFeatures(trunk, stages, working_size, sha256_of(path))


def _handcrafted(
    kind: type[GradientFeatures], argument: str, working_size: int, device: torch.device, path: Path | None
) -> FeatureExtractor:
    _refuse_argument(kind.name, argument)
    if path is not None:
        raise InputError(f"{kind.name} has no weights; leave out --weights {path}")
    return kind(working_size, device)


def _refuse_argument(feature: str, argument: str) -> None:
    if argument:
        raise InputError(f"{feature} takes no argument; '{argument}' was given")


def load_sift(argument: str, working_size: int, device: torch.device, path: Path | None) -> FeatureExtractor:
    return _handcrafted(SiftFeatures, argument, working_size, device, path)


def load_hog(argument: str, working_size: int, device: torch.device, path: Path | None) -> FeatureExtractor:
    return _handcrafted(HogFeatures, argument, working_size, device, path)


def _introspection_network(weights: Weights) -> IntrospectionNet:
    return _rebuilt("introspection", weights, IntrospectionConfig, IntrospectionNet)


def _anchor_network(weights: Weights) -> AnchorNet:
    return _rebuilt("anchornet", weights, AnchorConfig, AnchorNet)


def _rebuilt(feature: str, weights: Weights, config: type[Config], network: Callable[[Config], Network]) -> Network:
    """The network that a weights file describes and fills. Raises WeightsError if it is not ``feature``'s."""
    if weights.feature != feature:
        raise WeightsError(f"{weights.path}: weights of '{weights.feature}', not of {feature}")
    unknown = set(weights.config) - {field.name for field in fields(config)}
    if unknown:
        raise WeightsError(f"{weights.path}: made by another version of geomatch (unknown setting '{min(unknown)}')")
    # JSON knows lists only, configurations tuples only.
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in weights.config.items()}
    try:
        _check_kinds(config, settings)
        with torch.device("meta"):  # without memory, of which a damaged setting could ask for any amount
            described = network(config(**settings)).state_dict()
    except Exception as error:  # settings that make no sense fail wherever they are first used
        reason = str(error).partition("\n")[0]  # torch goes on with its own stack
        raise WeightsError(f"{weights.path}: describes no network that can be built ({reason})") from error
    if {name: tensor.shape for name, tensor in described.items()} != {n: t.shape for n, t in weights.state.items()}:
        raise WeightsError(f"{weights.path}: its tensors do not fit the network it describes")
    made = network(config(**settings))
    made.load_state_dict(weights.state)
    return made


def _check_kinds(config: type[DataclassInstance], settings: Mapping[str, object]) -> None:
    """Raises ValueError for a setting that is not of its field's type, or no finite number."""
    hints = get_type_hints(config)
    for name, value in settings.items():
        several = get_origin(hints[name]) is tuple
        kind = get_args(hints[name])[0] if several else hints[name]
        elements = value if several and isinstance(value, tuple) else (value,)
        fits = several == isinstance(value, tuple)
        fits &= all(isinstance(each, int | float if kind is float else kind) for each in elements)
        if not fits or (kind is float and not all(map(math.isfinite, elements))):
            raise ValueError(f"{name} is {value!r}")


def pretrained_trunk(path: Path) -> tuple[str, Trunk]:
    """The trunk, with its name, inside a weights file of geomatch's, or as others publish it."""
    state, about = read_safetensors(path)
    if about.get("format") == FORMAT:
        weights = load_weights(path)
        network = _anchor_network(weights) if weights.feature == "anchornet" else _introspection_network(weights)
        return network.config.trunk, network.trunk
    name = _recognise(state, path)
    trunk = build_trunk(name)
    load_pretrained(trunk, state, str(path))
    return name, trunk


def _recognise(state: Mapping[str, Tensor], path: Path) -> str:
    if "stem.conv.weight" in state:
        return "resnet50v2"
    if "layer3.0.conv1.weight" in state:
        return "resnet101" if "layer3.22.conv1.weight" in state else "resnet50"
    raise WeightsError(f"{path}: holds no trunk geomatch knows (resnet50v2, or torchvision's resnet50 or resnet101)")
