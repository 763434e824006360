"""What references mark of keypoints: for each object the descriptors at them, their positions and visibility."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from geomatch.annotations import Instance, Keypoints
from geomatch.correspondence import FeatureMap
from geomatch.transfer.references.evidence import Whitening, WhiteningSums, descriptors_at
from geomatch.transfer.references.keypoints import Examples


@dataclass(frozen=True)
class _Example:
    """An object. place: of its image in the list. descriptors: (K, C) at its keypoints."""

    place: int
    label: str
    shape: Keypoints
    descriptors: Tensor


class ExampleCollection:
    """The marked objects of many images. All are added before the first is asked for."""

    def __init__(self) -> None:
        self._examples: list[_Example] = []
        self._sums = WhiteningSums()

    def copy(self) -> ExampleCollection:
        """One with the same objects, to add others to."""
        other = ExampleCollection()
        other._examples, other._sums = list(self._examples), copy(self._sums)
        return other

    def add(self, place: int, instances: Sequence[Instance], features: FeatureMap) -> None:
        """Take the objects of an image. place: its number in the list."""
        self._sums.add(features)
        for instance in instances:
            assert isinstance(instance.shape, Keypoints), "of references that mark keypoints"
            descriptors = descriptors_at(features, instance.shape.points)
            self._examples.append(_Example(place, instance.label, instance.shape, descriptors))

    @cached_property
    def whiten(self) -> Whitening:
        """That of the cells of all images."""
        return self._sums.whitening()

    def of(self, places: Sequence[int], names: tuple[str, ...], label: str | None = None) -> Examples:
        """The objects on some images, by default of all labels, with these names; those that they lack are absent."""
        wanted = set(places)
        chosen = [each for each in self._examples if each.place in wanted and label in (None, each.label)]
        points, visibility = np.zeros((len(chosen), len(names), 2)), np.zeros((len(chosen), len(names)), np.int64)
        descriptors = self._zeros(len(chosen), len(names))
        for number, example in enumerate(chosen):
            own = example.shape.names
            here = [place for place, name in enumerate(names) if name in own]
            there = [own.index(names[place]) for place in here]
            points[number, here] = example.shape.points[there]
            visibility[number, here] = example.shape.visibility[there]
            descriptors[number, here] = self.whiten(example.descriptors[there])
        return Examples(names, np.array([each.place for each in chosen]), descriptors, points, visibility)

    def _zeros(self, examples: int, names: int) -> Tensor:
        known = self._examples[0].descriptors
        return known.new_zeros(examples, names, known.shape[1])
