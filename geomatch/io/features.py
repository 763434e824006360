"""An image's features on disk: NumPy .npz or safetensors, with the same names in either.

descriptors: (C, h, w); inverse_confidence: (h, w), if the features have it; both float32 or float16.
image_size: (2,) int64, height and width. origin, pitch: (2,) float64, x and y: the centre of the cell in row i and
column j is the pixel origin + pitch * (j, i) of the image. fine_values, fine_basis, fine_origin, fine_pitch: the fine
map, if the features have one. All else is JSON: the array ``about`` of an .npz, the entry
``geomatch`` of a safetensors file's metadata.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.numpy import load, save

from geomatch.correspondence import FeatureMap, FineMap
from geomatch.geometry.grid import Grid
from geomatch.options import FeatureFormat

Arrays = dict[str, NDArray[np.generic]]


def encode_features_npz(features: FeatureMap, about: Mapping[str, object], *, precision: str = "float32") -> bytes:
    """The features as a NumPy archive, whose checksums reveal damage."""
    buffer = io.BytesIO()
    arrays = _arrays(features, precision) | {"about": np.array(json.dumps(about, sort_keys=True))}
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def encode_features_safetensors(
    features: FeatureMap, about: Mapping[str, object], *, precision: str = "float32"
) -> bytes:
    return save(_arrays(features, precision), {"geomatch": json.dumps(about, sort_keys=True)})


FEATURE_ENCODERS: Mapping[str, Callable[..., bytes]] = {
    "npz": encode_features_npz,
    "safetensors": encode_features_safetensors,
}


def decode_features_npz(content: bytes) -> FeatureMap:
    """The features that `encode_features_npz` wrote, in float32 on the CPU.

    Descriptors of half precision are scaled to unit length. Raises ValueError if the content is not such a file.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = dict(archive)
        height, width = arrays["descriptors"].shape[1:]
        descriptors = torch.from_numpy(arrays["descriptors"].astype(np.float32))
        sigma = arrays.get("inverse_confidence")
        size, origin, pitch = (tuple(arrays[name].tolist()) for name in ("image_size", "origin", "pitch"))
        halved = arrays["descriptors"].dtype == np.float16
        return FeatureMap(
            F.normalize(descriptors, dim=0) if halved else descriptors,
            size,
            Grid(height, width, origin, pitch),
            None if sigma is None else torch.from_numpy(sigma.astype(np.float32)),
            fine=_fine_map(arrays) if "fine_values" in arrays else None,
        )
    except Exception as error:  # on a damaged file NumPy raises many kinds
        raise ValueError(f"not a feature file ({error})") from error


def read_about(content: bytes, format: FeatureFormat) -> dict[str, object]:
    """What a file of features says of itself: ``about``, and the shape and the dtype of its descriptors.

    Everything is read, so that an archive's checksums reveal damage. Raises ValueError if it is not such a file.
    """
    try:
        if format is FeatureFormat.npz:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                arrays = dict(archive)
            about = str(arrays["about"])
        else:
            (length,) = struct.unpack("<Q", content[:8])
            about = json.loads(content[8 : 8 + length])["__metadata__"]["geomatch"]
            arrays = load(content)
        descriptors = arrays["descriptors"]
        stated: dict[str, object] = json.loads(about)
        return stated | {"shape": list(descriptors.shape), "precision": str(descriptors.dtype)}
    except Exception as error:  # on a damaged file NumPy raises many kinds
        raise ValueError(f"not a feature file ({error})") from error


def _arrays(features: FeatureMap, precision: str) -> Arrays:
    arrays: Arrays = {
        "descriptors": features.descriptors.cpu().numpy().astype(precision),
        "image_size": np.array(features.image_size, np.int64),
        "origin": np.array(features.grid.origin, np.float64),
        "pitch": np.array(features.grid.pitch, np.float64),
    }
    if features.inverse_confidence is not None:
        arrays["inverse_confidence"] = features.inverse_confidence.cpu().numpy().astype(precision)
    if features.fine is not None:
        arrays["fine_values"] = features.fine.values.cpu().numpy().astype(precision)
        arrays["fine_basis"] = features.fine.basis.cpu().numpy().astype(precision)
        arrays["fine_origin"] = np.array(features.fine.grid.origin, np.float64)
        arrays["fine_pitch"] = np.array(features.fine.grid.pitch, np.float64)
    return arrays


def _fine_map(arrays: Mapping[str, NDArray[np.generic]]) -> FineMap:
    values, basis = (torch.from_numpy(arrays[name].astype(np.float32)) for name in ("fine_values", "fine_basis"))
    origin, pitch = (tuple(arrays[name].tolist()) for name in ("fine_origin", "fine_pitch"))
    return FineMap(F.normalize(values, dim=0), basis, Grid(values.shape[1], values.shape[2], origin, pitch))
