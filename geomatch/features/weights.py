"""Weights on disk: safetensors only, with what they are for written inside, and checksums in a manifest beside them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

import geomatch
from geomatch.errors import WeightsError
from geomatch.io.atomic import write_atomically

FORMAT = "geomatch-weights-1"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Weights:
    """A weights file in memory.

    feature: the extractor it belongs to; config: the shape of its network; state: its tensors, float32.
    sha256: of the file; path: where it was read.
    """

    feature: str
    config: dict[str, object]
    state: dict[str, Tensor]
    sha256: str
    path: Path


def shipped_features() -> list[str]:
    """The features that weights come with geomatch for, from the manifest. Raises WeightsError without a manifest."""
    return list(_read_manifest(_weights_folder()))


def shipped_weights(feature: str) -> Path:
    """The weights file that comes with geomatch for a feature, from the manifest.

    Looked for in $GEOMATCH_WEIGHTS, else in the installed package, else in the source tree's ``weights``.

    Raises WeightsError when there is none, or its checksum is not the manifest's.
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
    """Read a weights file of geomatch's. Raises WeightsError, naming the file, if it is not one that can be trusted."""
    state, about = read_safetensors(path)
    if about.get("format") != FORMAT:
        raise WeightsError(f"{path}: not geomatch weights (no '{FORMAT}' in its metadata); train some first")
    feature, config = about.get("feature"), about.get("config")
    if not isinstance(feature, str) or not isinstance(config, dict):
        raise WeightsError(f"{path}: does not say which features it is of, and the shape of their network")
    state = {name: tensor.float() for name, tensor in state.items()}
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise WeightsError(f"{path}: tensor '{name}' holds NaN or infinity; the weights are unusable")
    return Weights(
        feature=feature,
        config=config,
        state=state,
        sha256=sha256_of(path),
        path=path,
    )


def save_weights(path: Path, feature: str, config: Mapping[str, object], state: Mapping[str, Tensor]) -> None:
    """Write weights: kernels in fp16, everything per channel in fp32."""
    tensors = {
        name: tensor.detach().cpu().to(torch.float16 if tensor.ndim > 1 else torch.float32).contiguous()
        for name, tensor in state.items()
    }
    # One entry, since safetensors writes several in no certain order, and equal weights should be equal files.
    about = {"format": FORMAT, "feature": feature, "config": dict(config)}
    write_atomically(path, save(tensors, {"geomatch": json.dumps(about, sort_keys=True)}))


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors of any safetensors file, and what geomatch noted in it (nothing in files of others).

    Raises WeightsError, naming the file.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get("geomatch", "{}"))
            if not isinstance(about, dict):
                raise ValueError("what geomatch noted in it is no JSON object")
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        with path.open("rb") as raw:
            start = raw.read(4)
        if start[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            raise WeightsError(
                f"{path}: a PyTorch pickle, which could run code when read; convert it to safetensors first"
            ) from error
        raise WeightsError(f"{path}: damaged, truncated or no safetensors file ({error})") from error


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
