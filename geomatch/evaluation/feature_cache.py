"""Features of the images of a known sequence of pairs: each computed once, within a bound on memory."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable

from geomatch.correspondence import FeatureMap
from geomatch.datasets.pairs import PairImage

MAX_BYTES = 1 << 30


class FeatureCache:
    """Features by image. What is asked for, and when, is known beforehand.

    So what is never asked for again goes at once; if the rest exceeds ``max_bytes``, first goes what is needed latest,
    the choice that needs the fewest computations (Belady, 1966).
    """

    def __init__(
        self, describe: Callable[[PairImage], FeatureMap], schedule: Iterable[PairImage], max_bytes: int = MAX_BYTES
    ) -> None:
        self.describe, self.max_bytes = describe, max_bytes
        self.computed = 0
        self._uses: defaultdict[PairImage, deque[int]] = defaultdict(deque)
        for moment, image in enumerate(schedule):
            self._uses[image].append(moment)
        self._kept: dict[PairImage, FeatureMap] = {}

    def __call__(self, image: PairImage) -> FeatureMap:
        """The features for the next moment of the schedule, at which ``image`` stands."""
        self._uses[image].popleft()
        features = self._kept.get(image)
        if features is None:
            features = self.describe(image)
            self.computed += 1
            self._kept[image] = features
        if not self._uses[image]:
            del self._kept[image]
        while sum(map(_bytes, self._kept.values())) > self.max_bytes:
            del self._kept[max(self._kept, key=self._next_use)]
        return features

    def _next_use(self, image: PairImage) -> float:
        return self._uses[image][0] if self._uses[image] else math.inf


def _bytes(features: FeatureMap) -> int:
    held = (features.descriptors, features.inverse_confidence, features.image, features.boxes)
    return sum(each.nbytes for each in held if each is not None)
