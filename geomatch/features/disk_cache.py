"""Features kept on disk from one time to the next."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.errors import GeomatchWarning, InputError
from geomatch.features.base import FeatureExtractor
from geomatch.io.atomic import check_writable, write_atomically
from geomatch.io.features import decode_features_npz, encode_features_npz
from geomatch.runtime.plugins import source_sha256


class DiskCache(FeatureExtractor):
    """Another extractor's features, computed once an image for as long as the folder they are kept in stands.

    They are kept in half precision, and what was just computed is rounded likewise: a result does not depend on which
    images were known before. An entry is named by the SHA-256 of the image's pixels and of whatever else decides its
    features; one that is damaged is computed anew. Where the folder takes no more, the work goes on without keeping,
    with one GeomatchWarning. Several threads and processes may share a folder.

    Raises InputError if the folder cannot be made or written.
    """

    precision = "float16"

    def __init__(self, extractor: FeatureExtractor, folder: Path, device: torch.device) -> None:
        self.extractor, self.folder, self.device = extractor, folder, device
        self.name, self.working_size = extractor.name, extractor.working_size
        self.weights_sha256, self.calibration = extractor.weights_sha256, extractor.calibration
        self.program = source_sha256(extractor)
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot keep features there ({error.strerror})") from error
        check_writable(folder / "entry")
        self._keeping = True

    def __call__(self, image: Tensor) -> FeatureMap:
        path = self.folder / f"{self._key(image)}.features"
        content = _read_sealed(path)
        if content is None:
            content = encode_features_npz(self.extractor(image), {}, precision=self.precision)
            if self._keeping:
                self._keep(path, content)
        return self._on_device(decode_features_npz(content))

    def _key(self, image: Tensor) -> str:
        decisive = (self.name, self.weights_sha256, self.working_size, self.device.type, self.program, image.shape)
        digest = hashlib.sha256(json.dumps(decisive).encode())
        digest.update(image.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def _keep(self, path: Path, content: bytes) -> None:
        try:
            write_atomically(path, hashlib.sha256(content).digest() + content)
        except InputError as error:
            self._keeping = False
            warnings.warn(f"{error}; the work goes on, but keeps no more features", GeomatchWarning, stacklevel=2)

    def _on_device(self, features: FeatureMap) -> FeatureMap:
        sigma = features.inverse_confidence
        return replace(
            features,
            descriptors=features.descriptors.to(self.device),
            inverse_confidence=None if sigma is None else sigma.to(self.device),
            calibration=self.calibration,
        )


def _read_sealed(path: Path) -> bytes | None:
    """What stands in a file behind its SHA-256, or None if it is not there or not as it was written."""
    try:
        seal, content = (whole := path.read_bytes())[:_SEAL], whole[_SEAL:]
    except OSError:
        return None
    return content if hashlib.sha256(content).digest() == seal else None


_SEAL = hashlib.sha256().digest_size
