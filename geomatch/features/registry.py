"""Feature extractors by name: ``NAME`` or ``NAME:ARGUMENT``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor

from geomatch.errors import InputError, WeightsError
from geomatch.features.base import FeatureExtractor
from geomatch.features.hypercolumn import HypercolumnFeatures
from geomatch.features.introspection import IntrospectionConfig, IntrospectionFeatures, IntrospectionNet
from geomatch.features.resnet import Trunk, build_trunk, load_pretrained
from geomatch.features.weights import FORMAT, Weights, load_weights, read_safetensors, sha256_of, shipped_weights


def load_features(
    name: str, *, working_size: int, device: torch.device, weights: Path | None = None
) -> FeatureExtractor:
    """Make an extractor ready to use.

    name: ``introspection``, or ``hypercolumn`` with the stages to stack, as in ``hypercolumn:2+3`` (the default).
    working_size: the longer side, in pixels, that images are resized to. weights: a file of geomatch's, or for
    hypercolumns any pretrained trunk in safetensors; None takes the shipped ones.

    Raises InputError for an unknown name or argument, WeightsError for weights that cannot be used.
    """
    kind, _, argument = name.partition(":")
    if kind not in _LOADERS:
        raise InputError(f"unknown features '{name}': the known ones are {', '.join(_LOADERS)}")
    return _LOADERS[kind](argument, working_size, device, weights)


def _introspection(argument: str, working_size: int, device: torch.device, path: Path | None) -> FeatureExtractor:
    if argument:
        raise InputError(f"introspection takes no argument; '{argument}' was given")
    weights = load_weights(path or shipped_weights("introspection"))
    network = _introspection_network(weights).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return IntrospectionFeatures(network, working_size, weights.sha256)


def _hypercolumn(argument: str, working_size: int, device: torch.device, path: Path | None) -> FeatureExtractor:
    try:
        stages = [int(stage) for stage in (argument or "2+3").split("+")]
    except ValueError:
        raise InputError(f"hypercolumn:{argument}: give stages as numbers joined by '+', as hypercolumn:2+3") from None
    path = path or shipped_weights("introspection")
    trunk = _trunk_in(path).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return HypercolumnFeatures(trunk, stages, working_size, sha256_of(path))


_LOADERS: Mapping[str, Callable[[str, int, torch.device, Path | None], FeatureExtractor]] = {
    "introspection": _introspection,
    "hypercolumn": _hypercolumn,
}


def _introspection_network(weights: Weights) -> IntrospectionNet:
    if weights.feature != "introspection":
        raise WeightsError(f"{weights.path}: weights of '{weights.feature}', not of introspection")
    unknown = set(weights.config) - {field.name for field in fields(IntrospectionConfig)}
    if unknown:
        raise WeightsError(f"{weights.path}: made by another version of geomatch (unknown setting '{min(unknown)}')")
    network = IntrospectionNet(IntrospectionConfig(**weights.config))  # type: ignore[arg-type]
    try:
        network.load_state_dict(weights.state)
    except RuntimeError as error:
        raise WeightsError(f"{weights.path}: its tensors do not fit the network it describes") from error
    return network


def _trunk_in(path: Path) -> Trunk:
    """The trunk inside a weights file of geomatch's, or a pretrained trunk as others publish it."""
    state, about = read_safetensors(path)
    if about.get("format") == FORMAT:
        return _introspection_network(load_weights(path)).trunk
    trunk = build_trunk(_recognise(state, path))
    load_pretrained(trunk, state, str(path))
    return trunk


def _recognise(state: Mapping[str, Tensor], path: Path) -> str:
    if "stem.conv.weight" in state:
        return "resnet50v2"
    if "layer3.0.conv1.weight" in state:
        return "resnet101" if "layer3.22.conv1.weight" in state else "resnet50"
    raise WeightsError(f"{path}: holds no trunk geomatch knows (resnet50v2, or torchvision's resnet50 or resnet101)")
