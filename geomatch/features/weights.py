"""Weights files: geomatch's own, safetensors with the feature and its network's settings inside, and published ones.

Shipped weights have a manifest of checksums. Those that were learnt on the frozen trunk of others leave it to these.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import geomatch
from geomatch.errors import InputError, WeightsError
from geomatch.io.atomic import write_atomically
from geomatch.io.inputs import Input, InputFile, read_input
from geomatch.parameters import has_type

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")
Network = TypeVar("Network", bound=nn.Module)

FORMAT = "geomatch-weights-1"
MANIFEST = "manifest.json"
TRUNK = "trunk."
"""How the names of a trunk's tensors begin, in every network."""

STATE_KEYS = ("state_dict", "model_state_dict", "model")
"""Where published checkpoints keep the state dictionary beside the state of their training."""


@dataclass(frozen=True)
class Weights:
    """A weights file in memory.

    feature: the features it belongs to. config: the settings of their network. state: its tensors, float32.
    sha256: of the file. file: what messages call it.
    """

    feature: str
    config: dict[str, object]
    state: dict[str, Tensor]
    sha256: str
    file: str


def shipped_features() -> list[str]:
    """The features whose weights come with geomatch, from the manifest. Raises WeightsError without a manifest."""
    return list(_read_manifest(_weights_folder()))


def shipped_sha256(feature: str) -> str | None:
    """The SHA-256 of the shipped weights of a feature, from the manifest; None if none are shipped.

    Raises WeightsError without a manifest.
    """
    return _read_manifest(_weights_folder()).get(feature, {}).get("sha256")


def shipped_weights(feature: str) -> InputFile:
    """The weights file that comes with geomatch for a feature, from the manifest, read.

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
    file = read_input(path)
    if file.sha256 != entry["sha256"]:
        raise WeightsError(f"{path}: wrong checksum: the file is damaged or was changed; reinstall geomatch")
    return file


def load_weights(source: Input) -> Weights:
    """Read a weights file of geomatch. Raises WeightsError, naming the file, if it is damaged or another file."""
    file = read_weights_file(source)
    state, about = read_tensors(file)
    if about.get("format") != FORMAT:
        raise WeightsError(f"{file}: not geomatch weights (no '{FORMAT}' in its metadata); train some first")
    feature, config = about.get("feature"), about.get("config")
    if not isinstance(feature, str) or not isinstance(config, dict):
        raise WeightsError(f"{file}: does not say which features it is of and the settings of their network")
    if "stage" in config:  # until version 0.2 introspection read one stage
        config["stages"] = [str(config.pop("stage"))]
    elif isinstance(config.get("stages"), list):  # and AnchorNet's stages were numbers
        config["stages"] = [str(stage) if isinstance(stage, int) else stage for stage in config["stages"]]
    if "trunk" in about:
        state |= _trunk_elsewhere(about["trunk"], file)
    state = {name: tensor.float() for name, tensor in state.items()}
    for name, tensor in state.items():
        if not _is_finite(tensor):
            raise WeightsError(f"{file}: tensor {name!r} holds NaN or infinity; the weights are unusable")
    return Weights(feature, config, state, file.sha256, str(file))


def _trunk_elsewhere(about: object, file: InputFile) -> dict[str, Tensor]:
    """The trunk that a weights file has left to shipped weights: to their ``feature`` and ``sha256``."""
    if not isinstance(about, dict) or not isinstance(about.get("feature"), str):
        raise WeightsError(f"{file}: does not say whose trunk it was learnt on")
    owner = shipped_weights(about["feature"])
    if owner.sha256 != about.get("sha256"):
        raise WeightsError(
            f"{file}: was learnt on the trunk of other weights of {about['feature']} than those that come with this "
            "version of geomatch; use the version that it came with"
        )
    return {name: tensor for name, tensor in read_tensors(owner)[0].items() if name.startswith(TRUNK)}


def features_of(source: Input) -> str:
    """The features that a weights file of geomatch belongs to. Raises WeightsError for any other file."""
    about = read_tensors(source)[1]
    feature = about.get("feature")
    if about.get("format") != FORMAT or not isinstance(feature, str):
        raise WeightsError(f"{source}: does not say which features it is of; name them with --features")
    return feature


def load_network(
    source: Input | None, feature: str, config: type[Config], network: Callable[[Config], Network], device: torch.device
) -> tuple[Network, str]:
    """The network in a weights file, by default the shipped one, on a device; and the file's SHA-256.

    Raises WeightsError if the file cannot be used.
    """
    weights = load_weights(source or shipped_weights(feature))
    made = rebuild_network(weights, feature, config, network)
    return made.to(device, memory_format=torch.channels_last), weights.sha256  # type: ignore[call-overload]


def rebuild_network(
    weights: Weights, feature: str, config: type[Config], network: Callable[[Config], Network]
) -> Network:
    """The network of a weights file, with its weights. Raises WeightsError if the file is another feature's."""
    if weights.feature != feature:
        raise WeightsError(f"{weights.file}: weights of {weights.feature!r}, not of {feature}")
    hints = get_type_hints(config)
    if unknown := set(weights.config) - set(hints):
        raise WeightsError(f"{weights.file}: made by another version of geomatch (unknown setting {min(unknown)!r})")
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
        raise WeightsError(f"{weights.file}: describes no network that can be built ({reason})") from error
    if {name: tensor.shape for name, tensor in expected.items()} != {n: t.shape for n, t in weights.state.items()}:
        raise WeightsError(f"{weights.file}: its tensors do not fit the network it describes")
    with _LayersWithoutValues():
        made = network(config(**settings))
    made.load_state_dict(weights.state, assign=True)
    return made


class _LayersWithoutValues(TorchFunctionMode):
    """Layers made in it do not draw their weights, which takes longer than to read them."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if getattr(function, "__module__", "") == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return function(*args, **kwargs or {})


def save_weights(path: Path, feature: str, config: Mapping[str, object], state: Mapping[str, Tensor]) -> None:
    """Write weights: kernels in float16, vectors in float32."""
    tensors = {
        name: tensor.detach().cpu().to(torch.float16 if tensor.ndim > 1 else torch.float32).contiguous()
        for name, tensor in state.items()
    }
    # One entry, since safetensors writes several in an arbitrary order, and equal weights should be equal files.
    about = {"format": FORMAT, "feature": feature, "config": dict(config)}
    write_atomically(path, save(tensors, {"geomatch": json.dumps(about, sort_keys=True)}))


def without_trunk(source: Input, feature: str) -> bytes:
    """A weights file that leaves its trunk to the shipped weights of ``feature``, whose trunk it was learnt on.

    Raises WeightsError if its trunk differs from theirs.
    """
    file, owner = read_weights_file(source), shipped_weights(feature)
    state, about = read_tensors(file)
    theirs = read_tensors(owner)[0]
    shared = {name for name in state if name.startswith(TRUNK)}
    if shared != {name for name in theirs if name.startswith(TRUNK)} or not all(
        torch.equal(state[name], theirs[name]) for name in shared
    ):
        raise WeightsError(f"{file}: its trunk is not that of the shipped weights of {feature}")
    about["trunk"] = {"feature": feature, "sha256": owner.sha256}
    rest = {name: tensor for name, tensor in state.items() if name not in shared}
    return save(rest, {"geomatch": json.dumps(about, sort_keys=True)})


def encode_safetensors(source: Input) -> bytes:
    """The tensors of a file of PyTorch, or of safetensors, as a file of safetensors. Raises WeightsError."""
    state, about = read_tensors(source)
    tensors = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
    return save(tensors, {"geomatch": json.dumps(about, sort_keys=True)} if about else None)


def read_weights_file(source: Input) -> InputFile:
    """`read_input` of weights. Raises WeightsError if they cannot be read."""
    try:
        return read_input(source)
    except InputError as error:
        missing = isinstance(error.__cause__, FileNotFoundError)
        raise WeightsError(f"{source}: no such weights file" if missing else str(error)) from error


def read_tensors(source: Input) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors of a file of safetensors or of PyTorch (.pth, .pt), and geomatch's metadata, empty in other files.

    Of a PyTorch file only tensors and plain containers are read; no code in it is run. A state dictionary may lie under
    one of `STATE_KEYS`, and its names may begin with ``module.``, as `torch.nn.DataParallel` makes them.

    Raises WeightsError, naming the file.
    """
    file = read_weights_file(source)
    try:
        tensors = load(file.content)
        about = json.loads(_metadata(file.content).get("geomatch", "{}"))
        if not isinstance(about, dict):
            raise ValueError("its metadata are not a JSON object")
        return tensors, about
    except (SafetensorError, LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        if _is_pickle(file.content):
            return _read_pickle(file), {}
        raise WeightsError(f"{file}: damaged, truncated or not a safetensors file or PyTorch's ({error})") from error


def _metadata(content: bytes) -> dict[str, str]:
    """What a sound safetensors file says of itself: 8 bytes are the length of the JSON in front of its tensors."""
    head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return head.get("__metadata__") or {}


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are; a sum is, and takes a fraction of the time, unless one is not or the sum overflows."""
    return bool(tensor.sum().isfinite() or tensor.isfinite().all())


def _is_pickle(content: bytes) -> bool:
    """Whether a file begins as those of `torch.save` do, or as any pickle."""
    return content[:4] == b"PK\x03\x04" or content[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def _read_pickle(file: InputFile) -> dict[str, Tensor]:
    """The state dictionary in a file of `torch.save`. Raises WeightsError."""
    try:
        content = torch.load(io.BytesIO(file.content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises exceptions of many types for foreign and damaged files
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        if foreign:
            raise WeightsError(
                f"{file}: holds more than tensors ({foreign[1]}), which could run code when read; "
                "save the model's state_dict() alone"
            ) from error
        raise WeightsError(f"{file}: damaged, truncated or not a PyTorch file of tensors") from error
    for key in STATE_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise WeightsError(f"{file}: holds no state dictionary; save the model's state_dict()")
    state = {str(name).removeprefix("module."): value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise WeightsError(f"{file}: holds no tensor by name; save the model's state_dict()")
    for name, tensor in state.items():
        if not _is_plain(tensor):
            raise WeightsError(f"{file}: tensor {name!r} is not a plain array of numbers; convert it to float32")
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
