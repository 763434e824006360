"""Which images to annotate next: those that stand for the most others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geomatch.options import Mirror
from geomatch.pipeline import Pipeline
from geomatch.transfer.references.evidence import image_descriptor
from geomatch.transfer.references.reference_set import ReferenceSet
from geomatch.transfer.references.transfer import ReferenceTransfer


@dataclass(frozen=True)
class Suggestion:
    """An image to annotate.

    place: in the list. gain: how much nearer, in cosine similarity, all images are to an annotated one with it, in sum.
    stands_for: how many images resemble it more than any that is annotated or was suggested before, itself included.
    nearest: that which it resembles most itself, as a place in the list or, from the length of the list on, among
    those annotated; None if there is none. similarity: to that one.
    """

    place: int
    gain: float
    stands_for: int
    nearest: int | None
    similarity: float


def suggest(
    descriptors: Tensor, count: int, annotated: Tensor | None = None, doubt: Tensor | None = None
) -> list[Suggestion]:
    """Up to ``count`` images to annotate, the most useful first.

    Each time that image is chosen with which the images are nearest to annotated ones:

        argmax_c  sum_i  doubt_i max(0, s(i, c) - max_a s(i, a)),    a: annotated or chosen before

    Ties go to the lowest place. Source: facility location, chosen greedily, which gains at least 1 - 1/e of what is
    possible (Nemhauser, Wolsey and Fisher, 1978), as Wei, Iyer and Bilmes (ICML 2015) select data with. Farthest-first
    (k-centre) takes outliers, which are like nothing that is to be found.

    Args:
        descriptors: (N, D) of unit length, one for each image.
        annotated: (M, D), those of images that are annotated already.
        doubt: (N,) non-negative, how unsure what is found on each image is; by default all are the same.
    """
    similarity = descriptors @ descriptors.mT
    number = len(similarity)
    weight = torch.ones(number) if doubt is None else doubt.to(similarity)
    best = similarity.new_full((number,), -1.0)
    owner = torch.full((number,), -1)
    if annotated is not None and len(annotated):
        best, owner = (descriptors @ annotated.mT).max(dim=1)
        owner = owner + number
    found: list[Suggestion] = []
    open_places = torch.ones(number, dtype=torch.bool)
    for _ in range(min(count, number)):
        nearer = (similarity - best[:, None]).clamp(min=0)
        gains = (weight @ nearer).masked_fill(~open_places, -1)
        place = int(gains.argmax())
        before = int(owner[place])
        stands_for = int((nearer[:, place] > 0).sum())
        found.append(
            Suggestion(place, float(gains[place]), stands_for, None if before < 0 else before, float(best[place]))
        )
        closer = similarity[:, place] > best
        best, owner = torch.where(closer, similarity[:, place], best), torch.where(closer, place, owner)
        open_places[place] = False
    return found


class Candidates:
    """Images that could be annotated: what they are compared by and, with references, what is found on each.

    confidence: of what `ReferenceTransfer` finds on each image; empty without references.
    """

    def __init__(self, pipeline: Pipeline, references: ReferenceSet | None = None) -> None:
        """references: the images that are annotated, which are extracted. Raises InputError if one is gone."""
        self._pipeline = pipeline
        self._transfer = ReferenceTransfer(pipeline, references) if references else None
        self._descriptors: list[Tensor] = []
        self.confidence: list[float] = []

    def add(self, image: Tensor) -> None:
        """Take an image (3, H, W) uint8."""
        features = self._pipeline.extract(image, Mirror.off)
        self._descriptors.append(image_descriptor(features).cpu())
        if self._transfer:
            found = self._transfer.found_in(features).instances
            self.confidence.append(sum(each.confidence or 0.0 for each in found) / max(len(found), 1))

    def suggest(self, count: int) -> list[Suggestion]:
        """Up to ``count`` of the images, see `suggest`; with references the doubt is one minus the confidence."""
        annotated = self._transfer.descriptors.cpu() if self._transfer else None
        doubt = 1 - torch.tensor(self.confidence) if self._transfer else None
        return suggest(torch.stack(self._descriptors), count, annotated, doubt)
