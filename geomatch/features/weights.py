"""Weights files: safetensors only, with the feature and its network's settings inside, and a manifest of checksums."""

from __future__ import annotations

import hashlib
import json
import math
import os
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
    state, about = read_safetensors(path)
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
    about = read_safetensors(path)[1]
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


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors of any safetensors file, and geomatch's metadata in it, which is empty in other files.

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
        with path.open("rb") as raw:
            start = raw.read(4)
        if start[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            raise WeightsError(
                f"{path}: a PyTorch pickle, which could run code when read; convert it to safetensors first"
            ) from error
        raise WeightsError(f"{path}: damaged, truncated or not a safetensors file ({error})") from error


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
