"""Features kept on disk between runs."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from geomatch.correspondence import FeatureMap, FineMap
from geomatch.errors import GeomatchWarning, InputError
from geomatch.features.base import FeatureExtractor
from geomatch.io.atomic import check_new_folder, write_atomically
from geomatch.io.features import decode_features_npz, encode_features_npz
from geomatch.runtime.plugins import source_sha256


class CachedFeatures(FeatureExtractor):
    """Another extractor's features, kept in a folder; each image is extracted once.

    They are kept in half precision. Features that were just extracted are rounded, too, so that the result does not
    depend on which images are in the folder. The name of an entry is the SHA-256 of the image's pixels and of
    everything else that decides its features. A damaged entry is extracted again. If an entry cannot be written, a
    GeomatchWarning says so once, and the work goes on without writing. Threads and processes may share a folder.

    Raises InputError if the folder cannot be made or written.
    """

    precision = "float16"

    def __init__(self, extractor: FeatureExtractor, folder: Path, device: torch.device) -> None:
        self.extractor, self.folder, self.device = extractor, folder, device
        self.name, self.working_size = extractor.name, extractor.working_size
        self.weights_sha256, self.calibration = extractor.weights_sha256, extractor.calibration
        self.arithmetic, self.by_class, self.fine = extractor.arithmetic, extractor.by_class, extractor.fine
        self.source_sha256 = source_sha256(extractor)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot keep features there ({error.strerror})") from error
        check_new_folder(folder, overwrite=True)
        self._writable = True

    def for_class(self, name: str) -> FeatureExtractor:
        if not self.by_class:
            return self
        return CachedFeatures(self.extractor.for_class(name), self.folder, self.device)

    def __call__(self, image: Tensor) -> FeatureMap:
        return self.extract_batch([image])[0]

    def extract_batch(self, images: Sequence[Tensor]) -> list[FeatureMap]:
        paths = [self.folder / f"{self._key(image)}.features" for image in images]
        contents = [_read_sealed(path) for path in paths]
        missing = [place for place, content in enumerate(contents) if content is None]
        extracted = self.extractor.extract_batch([images[place] for place in missing])
        for place, features in zip(missing, extracted, strict=True):
            contents[place] = content = encode_features_npz(features, {}, precision=self.precision)
            if self._writable:
                self._write(paths[place], content)
        return [
            self.extractor.complete(self._on_device(decode_features_npz(each))) for each in contents if each is not None
        ]

    def _key(self, image: Tensor) -> str:
        weights, code = self.weights_sha256, self.source_sha256
        how = (self.working_size, self.device.type, self.arithmetic, self.fine)
        settings = (self.name, weights, *how, code, image.shape)
        digest = hashlib.sha256(json.dumps(settings).encode())
        digest.update(image.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def _write(self, path: Path, content: bytes) -> None:
        try:
            write_atomically(path, hashlib.sha256(content).digest() + content)
        except InputError as error:
            self._writable = False
            warnings.warn(f"{error}; the work goes on, but keeps no more features", GeomatchWarning, stacklevel=2)

    def _on_device(self, features: FeatureMap) -> FeatureMap:
        sigma, fine = features.inverse_confidence, features.fine
        return replace(
            features,
            descriptors=features.descriptors.to(self.device),
            inverse_confidence=None if sigma is None else sigma.to(self.device),
            fine=None if fine is None else FineMap(fine.values.to(self.device), fine.basis.to(self.device), fine.grid),
            calibration=self.calibration,
        )


def _read_sealed(path: Path) -> bytes | None:
    """The content of a file after its SHA-256; None if the file is missing or damaged."""
    try:
        seal, content = (whole := path.read_bytes())[:_SEAL], whole[_SEAL:]
    except OSError:
        return None
    return content if hashlib.sha256(content).digest() == seal else None


_SEAL = hashlib.sha256().digest_size
