"""Features of the images that were extracted last, kept in memory for work whose order is not known."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.features.base import FeatureExtractor
from geomatch.runtime.feature_cache import MAX_BYTES


class RecentFeatures(FeatureExtractor):
    """Another extractor's features, which are the same. Those used last are kept, within ``max_bytes``.

    Where the order of images is known, `FeatureCache` keeps better ones. One thread at a time may extract.
    """

    def __init__(self, extractor: FeatureExtractor, max_bytes: int = MAX_BYTES) -> None:
        self.extractor, self.max_bytes = extractor, max_bytes
        self.name, self.working_size, self.precision = extractor.name, extractor.working_size, extractor.precision
        self.weights_sha256, self.calibration = extractor.weights_sha256, extractor.calibration
        self.arithmetic, self.by_class, self.fine = extractor.arithmetic, extractor.by_class, extractor.fine
        self.computed = 0
        self._kept: OrderedDict[bytes, FeatureMap] = OrderedDict()
        self._of_class: dict[str, RecentFeatures] = {}

    def for_class(self, name: str) -> FeatureExtractor:
        if not self.by_class:
            return self
        if name not in self._of_class:
            self._of_class = {name: RecentFeatures(self.extractor.for_class(name), self.max_bytes)}
        return self._of_class[name]

    def complete(self, features: FeatureMap) -> FeatureMap:
        return self.extractor.complete(features)

    def __call__(self, image: Tensor) -> FeatureMap:
        return self.extract_batch([image])[0]

    def extract_batch(self, images: Sequence[Tensor]) -> list[FeatureMap]:
        keys = [_key(image) for image in images]
        missing = {key: image for key, image in zip(keys, images, strict=True) if key not in self._kept}
        self.computed += len(missing)
        self._kept |= zip(missing, self.extractor.extract_batch(list(missing.values())), strict=True)
        for key in keys:
            self._kept.move_to_end(key)
        found = [self._kept[key] for key in keys]
        while sum(each.nbytes for each in self._kept.values()) > self.max_bytes and len(self._kept) > 1:
            self._kept.popitem(last=False)
        return found


def _key(image: Tensor) -> bytes:
    pixels = image.cpu().contiguous().numpy()
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()
