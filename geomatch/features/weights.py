"""Weights files: geomatch's own, safetensors with the feature and its network's settings inside, and published ones.

Shipped weights have a manifest of checksums.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

import geomatch
from geomatch.errors import WeightsError
from geomatch.io.atomic import write_atomically
from geomatch.parameters import has_type

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")
Network = TypeVar("Network", bound=nn.Module)

FORMAT = "geomatch-weights-1"
MANIFEST = "manifest.json"
STATE_KEYS = ("state_dict", "model_state_dict", "model")
"""Where published checkpoints keep the state dictionary beside the state of their training."""


@dataclass(frozen=True)
class Weights:
    """A weights file in memory.

    feature: the features it belongs to. config: the settings of their network. state: its tensors, float32.
    sha256: of the file. path: the file.
    """

    feature: str
    config: dict[str, object]
    state: dict[str, Tensor]
    sha256: str
    path: Path


def shipped_features() -> list[str]:
    """The features whose weights come with geomatch, from the manifest. Raises WeightsError without a manifest."""
    return list(_read_manifest(_weights_folder()))


def shipped_weights(feature: str) -> Path:
    """The weights file that comes with geomatch for a feature, from the manifest.

    It is in the folder $GEOMATCH_WEIGHTS if that is set, else in the installed package or the source tree.

    Raises WeightsError if there is none, or its checksum differs from the manifest's.
    """
    folder = _weights_folder()
    manifest = _read_manifest(folder)
    if feature not in manifest:
        raise WeightsError(f"{folder}: no weights for '{feature}' here; give a file with --weights")
    entry = manifest[feature]
    path = folder / entry["file"]
    if not path.is_file():
        raise WeightsError(f"{path}: weights missing; reinstall geomatch, or give a file with --weights")
    if sha256_of(path) != entry["sha256"]:
        raise WeightsError(f"{path}: wrong checksum: the file is damaged or was changed; reinstall geomatch")
    return path


def load_weights(path: Path) -> Weights:
    """Read a weights file of geomatch. Raises WeightsError, naming the file, if it is damaged or another file."""
    state, about = read_tensors(path)
    if about.get("format") != FORMAT:
        raise WeightsError(f"{path}: not geomatch weights (no '{FORMAT}' in its metadata); train some first")
    feature, config = about.get("feature"), about.get("config")
    if not isinstance(feature, str) or not isinstance(config, dict):
        raise WeightsError(f"{path}: does not say which features it is of and the settings of their network")
    if "stage" in config:  # until version 0.2 introspection read one stage
        config["stages"] = [str(config.pop("stage"))]
    elif isinstance(config.get("stages"), list):  # and AnchorNet's stages were numbers
        config["stages"] = [str(stage) if isinstance(stage, int) else stage for stage in config["stages"]]
    state = {name: tensor.float() for name, tensor in state.items()}
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise WeightsError(f"{path}: tensor {name!r} holds NaN or infinity; the weights are unusable")
    return Weights(feature, config, state, sha256_of(path), path)


def features_of(path: Path) -> str:
    """The features that a weights file of geomatch belongs to. Raises WeightsError for any other file."""
    about = read_tensors(path)[1]
    feature = about.get("feature")
    if about.get("format") != FORMAT or not isinstance(feature, str):
        raise WeightsError(f"{path}: does not say which features it is of; name them with --features")
    return feature


def load_network(
    path: Path | None, feature: str, config: type[Config], network: Callable[[Config], Network], device: torch.device
) -> tuple[Network, str]:
    """The network in a weights file, by default the shipped one, on a device; and the file's SHA-256.

    Raises WeightsError if the file cannot be used.
    """
    weights = load_weights(path or shipped_weights(feature))
    made = rebuild_network(weights, feature, config, network)
    return made.to(device, memory_format=torch.channels_last), weights.sha256  # type: ignore[call-overload]


def rebuild_network(
    weights: Weights, feature: str, config: type[Config], network: Callable[[Config], Network]
) -> Network:
    """The network of a weights file, with its weights. Raises WeightsError if the file is another feature's."""
    if weights.feature != feature:
        raise WeightsError(f"{weights.path}: weights of {weights.feature!r}, not of {feature}")
    hints = get_type_hints(config)
    if unknown := set(weights.config) - set(hints):
        raise WeightsError(f"{weights.path}: made by another version of geomatch (unknown setting {min(unknown)!r})")
    # JSON has lists only, settings have tuples only.
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in weights.config.items()}
    try:
        for name, value in settings.items():
            if not has_type(value, hints[name]) or (isinstance(value, int | float) and not math.isfinite(value)):
                raise ValueError(f"{name} is {value!r}")
        with torch.device("meta"):  # takes no memory; a damaged setting could ask for any amount
            expected = network(config(**settings)).state_dict()
    except Exception as error:  # settings that make no sense fail wherever they are first used
        reason = str(error).partition("\n")[0]  # torch goes on with its own stack
        raise WeightsError(f"{weights.path}: describes no network that can be built ({reason})") from error
    if {name: tensor.shape for name, tensor in expected.items()} != {n: t.shape for n, t in weights.state.items()}:
        raise WeightsError(f"{weights.path}: its tensors do not fit the network it describes")
    made = network(config(**settings))
    made.load_state_dict(weights.state)
    return made


def save_weights(path: Path, feature: str, config: Mapping[str, object], state: Mapping[str, Tensor]) -> None:
    """Write weights: kernels in float16, vectors in float32."""
    tensors = {
        name: tensor.detach().cpu().to(torch.float16 if tensor.ndim > 1 else torch.float32).contiguous()
        for name, tensor in state.items()
    }
    # One entry, since safetensors writes several in an arbitrary order, and equal weights should be equal files.
    about = {"format": FORMAT, "feature": feature, "config": dict(config)}
    write_atomically(path, save(tensors, {"geomatch": json.dumps(about, sort_keys=True)}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors of a file of safetensors or of PyTorch (.pth, .pt), and geomatch's metadata, empty in other files.

    Of a PyTorch file only tensors and plain containers are read; no code in it is run. A state dictionary may lie under
    one of `STATE_KEYS`, and its names may begin with ``module.``, as `torch.nn.DataParallel` makes them.

    Raises WeightsError, naming the file.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("geomatch", "{}"))
            if not isinstance(about, dict):
                raise ValueError("its metadata are not a JSON object")
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        if _is_pickle(path):
            return _read_pickle(path), {}
        raise WeightsError(f"{path}: damaged, truncated or not a safetensors file or PyTorch's ({error})") from error


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_pickle(path: Path) -> bool:
    """Whether a file begins as those of `torch.save` do, or as any pickle."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError:
        return False
    return start == b"PK\x03\x04" or start[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """The state dictionary in a file of `torch.save`. Raises WeightsError."""
    try:
        with path.open("rb") as file:  # torch judges a path by its suffix
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises exceptions of many types for foreign and damaged files
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        if foreign:
            raise WeightsError(
                f"{path}: holds more than tensors ({foreign[1]}), which could run code when read; "
                "save the model's state_dict() alone"
            ) from error
        raise WeightsError(f"{path}: damaged, truncated or not a PyTorch file of tensors") from error
    for key in STATE_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: holds no state dictionary; save the model's state_dict()")
    state = {str(name).removeprefix("module."): value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise WeightsError(f"{path}: holds no tensor by name; save the model's state_dict()")
    for name, tensor in state.items():
        if not _is_plain(tensor):
            raise WeightsError(f"{path}: tensor {name!r} is not a plain array of numbers; convert it to float32")
    return {name: tensor.detach() for name, tensor in state.items()}


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor's numbers are real and all in memory; a damaged file can claim to have more than it holds."""
    if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.is_quantized or tensor.is_complex():
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def _weights_folder() -> Path:
    package = Path(geomatch.__file__).parent
    chosen = os.environ.get("GEOMATCH_WEIGHTS")
    if chosen:
        return Path(chosen)
    return next((p for p in (package / "weights", package.parent / "weights") if p.is_dir()), package / "weights")


def _read_manifest(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / MANIFEST
    try:
        manifest: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: missing; reinstall geomatch, or point GEOMATCH_WEIGHTS at its folder") from error
    except ValueError as error:
        raise WeightsError(f"{path}: not valid JSON ({error})") from error
    return manifest
