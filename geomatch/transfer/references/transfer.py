"""Annotations of the most similar of many references transferred to an image, and fused there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomatch.annotations import AnnotatedImage, Box, Instance, Keypoints, Region, Visibility
from geomatch.correspondence import FeatureMap
from geomatch.errors import InputError
from geomatch.io.images import load_image
from geomatch.options import DEFAULT_REFERENCES, AnnotationKind, Mirror
from geomatch.pipeline import Pipeline
from geomatch.transfer.reference import Reference
from geomatch.transfer.references.evidence import descriptors_at, image_descriptor
from geomatch.transfer.references.examples import ExampleCollection
from geomatch.transfer.references.keypoints import (
    PRESENT,
    Acceptance,
    Examples,
    FoundKeypoints,
    FusedConfidence,
    find_keypoints,
)
from geomatch.transfer.references.reference_set import ReferenceSet
from geomatch.transfer.references.regions import fuse_boxes, fuse_masks
from geomatch.transfer.transfer import InstanceTransfer, Transferred

SHORTLIST = 3
"""How many references, for each that is chosen by its keypoints, are most similar as a whole."""


@dataclass(frozen=True)
class ReferenceChoice:
    """Which references annotations are transferred from.

    count: the most similar ones, at most. across_categories: those of other categories count as well, where they have
    keypoints of the same names; else each category has its own. min_confidence: of what is found, in [0, 1].
    """

    count: int = DEFAULT_REFERENCES[AnnotationKind.keypoints]
    across_categories: bool = False
    min_confidence: float = 0.0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"references is {self.count}: transfer from at least one")
        if not 0 <= self.min_confidence <= 1:
            raise InputError(f"min_confidence is {self.min_confidence}: it must be between 0 and 1")

    def record(self, marked: Reference | ReferenceSet) -> Mapping[str, Any]:
        """What of it affects the results of a transfer from one or many references, ready for JSON."""
        least = {"least_confidence": self.min_confidence}
        if isinstance(marked, Reference):
            return least
        return {**least, "references": self.count, "across_categories": self.across_categories}


class ReferenceTransfer:
    """Finds on images what references mark: of each label one object, at most.

    Features of the references are extracted once. Of keypoints only those at the marked places are kept, of masks and
    boxes all.
    """

    def __init__(
        self, pipeline: Pipeline, references: ReferenceSet, choice: ReferenceChoice = ReferenceChoice()
    ) -> None:
        """Extract the references. Raises InputError if one is gone."""
        self.pipeline, self.references, self.choice = pipeline, references, choice
        self._features: list[FeatureMap] = []
        self._examples = ExampleCollection() if references.kind is AnnotationKind.keypoints else None
        self._descriptors = torch.stack([self._add(*each) for each in enumerate(references.images)])

    def adopting(self, images: Sequence[AnnotatedImage], sha256: Sequence[str]) -> ReferenceTransfer:
        """This transfer with further references, which mark keypoints as well; they are extracted here.

        See `ReferenceSet.adopting`. Raises InputError if one is gone.
        """
        assert self._examples is not None, "masks and boxes are not adopted"
        more = copy(self)
        more.references, more._examples = self.references.adopting(images, sha256), self._examples.copy()
        added = [more._add(*each) for each in enumerate(images, len(self.references.images))]
        more._descriptors = torch.stack((*self._descriptors, *added))
        return more

    def _add(self, place: int, image: AnnotatedImage) -> Tensor:
        """Extract a reference. Returns its descriptor as a whole."""
        features = self.pipeline.extract(load_image(Path(image.name)), Mirror.off)
        if self._examples is None:
            self._features.append(features)
        else:
            self._examples.add(place, image.instances, features)
        return image_descriptor(features)

    def __call__(self, image: Tensor, mask: Tensor | None = None) -> list[Instance]:
        """The instances found on an image (3, H, W) uint8, within a mask (H, W) bool. Raises OutOfMemoryError."""
        return list(self.transferred(image, mask=mask).instances)

    def transferred(self, image: Tensor, sha256: str | None = None, mask: Tensor | None = None) -> Transferred:
        """The same, and the references that were chosen, those that people have marked first.

        sha256: of the image's file. An image that was adopted is no reference for itself.
        """
        features = self.pipeline.extract(image, None if self._examples is None else Mirror.off).masked(mask)
        find = self._region if self._examples is None else self._keypoints
        ranked = self.rank(features, sha256)
        found, used = [], dict[int, None]()
        for template in self._present(ranked):
            instance, chosen = find(template, features, ranked)
            used |= dict.fromkeys(chosen)
            if instance is not None:
                found.append(instance)
        marked_first = sorted(used, key=lambda place: place in self.references.adopted)
        return Transferred(found, [self.references.images[place] for place in marked_first])

    def certain(self, features: FeatureMap, sha256: str, rule: Acceptance) -> list[Instance]:
        """Those of the objects found on a target whose keypoints are certain enough to be a reference's.

        features, sha256: of the target and its file.
        """
        ranked = self.rank(features, sha256)
        certain = []
        for template in self._present(ranked):
            chosen, found = self.find_keypoints(template, features, ranked)
            instance = self.instance(template, chosen, found)
            if instance is not None and rule.accepts(instance, self.cycle_agreement(chosen, found, features)):
                certain.append(instance)
        return certain

    def cycle_agreement(self, chosen: Examples, found: FoundKeypoints, features: FeatureMap) -> NDArray[np.float64]:
        """Of the keypoints found on a target, see `Examples.returning`: (K,) in [0, 1]."""
        assert self._examples is not None, "of references that mark keypoints"
        return chosen.returning(self._examples.whiten(descriptors_at(features, found.positions)))

    def _present(self, ranked: Sequence[int]) -> list[Instance]:
        """What has a label that most of the nearest references have, else the one that is the most common among them.

        Of equally common labels that of the most similar reference counts.
        """
        nearest = ranked[: self.choice.count]
        votes = Counter(label for place in nearest for label in sorted(self._labels(place)))
        present = {label for label, count in votes.items() if count >= PRESENT * len(nearest)}
        present = present or {votes.most_common(1)[0][0]}
        return [each for each in self.references.annotations.instances if each.label in present]

    def find_keypoints(
        self, template: Instance, features: FeatureMap, ranked: Sequence[int]
    ) -> tuple[Examples, FoundKeypoints]:
        """The places of the keypoints of a label's object on a target, and the examples that they are found by.

        Of the references that are most similar as a whole, those whose keypoints are most similar are chosen.
        ranked: see `rank`.
        """
        assert self._examples is not None, "of references that mark keypoints"
        assert isinstance(template.shape, Keypoints), "of references that mark keypoints"
        label = None if self.choice.across_categories else template.label
        usable = [place for place in ranked if label is None or label in self._labels(place)]
        cells = self._examples.whiten(features.descriptors.flatten(1).mT)
        near = self._examples.of(usable[: SHORTLIST * self.choice.count], template.shape.names, label)
        chosen = near.most_similar(cells, self.choice.count)
        return chosen, find_keypoints(chosen, cells, features.grid, inside=features.inside)

    def rank(self, features: FeatureMap, sha256: str | None = None) -> list[int]:
        """All references, the most similar first; without those that were adopted from the file of this SHA-256."""
        similarity = self._descriptors @ image_descriptor(features)
        ranked: list[int] = similarity.argsort(descending=True, stable=True).tolist()
        adopted = self.references.adopted
        return [place for place in ranked if place not in adopted or self.references.sha256[place] != sha256]

    def _labels(self, place: int) -> set[str]:
        return {each.label for each in self.references.images[place].instances}

    def _keypoints(
        self, template: Instance, features: FeatureMap, ranked: Sequence[int]
    ) -> tuple[Instance | None, list[int]]:
        chosen, found = self.find_keypoints(template, features, ranked)
        return self.instance(template, chosen, found), chosen.places.tolist()

    def instance(self, template: Instance, chosen: Examples, found: FoundKeypoints) -> Instance | None:
        """The object on a target that its keypoints make, without those that are absent; None if all are."""
        confidence = FusedConfidence()(found.cues)
        here = chosen.present & (confidence >= self.choice.min_confidence)
        if not here.any():
            return None
        visibility = np.where(chosen.hidden | (confidence < 0.5), Visibility.guessed, Visibility.seen) * here
        keypoints = Keypoints(chosen.names, found.positions, visibility, confidence * here)
        mean = round(float(confidence[here].mean()), 4)
        return _found(template, keypoints, Visibility(int(visibility.max())), mean)

    def _region(
        self, template: Instance, features: FeatureMap, ranked: Sequence[int]
    ) -> tuple[Instance | None, list[int]]:
        usable = [place for place in ranked if template.label in self._labels(place)][: self.choice.count]
        found = []
        for place in usable:
            objects = [each for each in self.references.images[place].instances if each.label == template.label]
            found.append((objects, self.pipeline.match(features, self._features[place])))
        fused = fuse_masks(template.shape, found) if isinstance(template.shape, Region) else fuse_boxes(found)
        if fused is None or fused[1] < self.choice.min_confidence:
            return None, usable
        shape, confidence = fused
        visibility = Visibility.seen if confidence >= 0.5 else Visibility.guessed
        return _found(template, shape, visibility, round(confidence, 4)), usable


def _found(template: Instance, shape: Keypoints | Region | Box, visibility: Visibility, confidence: float) -> Instance:
    return replace(template, shape=shape, visibility=visibility, confidence=confidence)


def default_features(marked: Reference | ReferenceSet) -> str | None:
    """The features that a transfer has if none are asked for; None: the preset's.

    Keypoints of many references are found by similarity alone, for which combined features are better at the same cost.
    """
    many = isinstance(marked, ReferenceSet) and marked.kind is AnnotationKind.keypoints
    return "combined" if many else None


def open_transfer(
    pipeline: Pipeline, marked: Reference | ReferenceSet, choice: ReferenceChoice
) -> InstanceTransfer | ReferenceTransfer:
    """The transfer from one reference, by matching it, or from the most similar of many; they are extracted here."""
    if isinstance(marked, ReferenceSet):
        return ReferenceTransfer(pipeline, marked, choice)
    features = pipeline.extract(marked.image.pixels)
    return InstanceTransfer(pipeline, features, marked.annotations.instances, marked.kind, choice.min_confidence)
