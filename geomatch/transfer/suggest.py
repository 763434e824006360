"""Which images to annotate next: those that stand for the most others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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


def suggest(descriptors: Tensor, count: int, annotated: Tensor | None = None) -> list[Suggestion]:
    """Up to ``count`` images to annotate, the most useful first.

    Each time that image is chosen with which the images are nearest to annotated ones:

        argmax_c  sum_i  max(0, s(i, c) - max_a s(i, a)),    a: annotated or chosen before

    Ties go to the lowest place. Source: facility location, chosen greedily, which gains at least 1 - 1/e of what is
    possible (Nemhauser, Wolsey and Fisher, 1978), as Wei, Iyer and Bilmes (ICML 2015) select data with. Farthest-first
    (k-centre) and the images on which least is sure are outliers, from which little can be transferred.

    Args:
        descriptors: (N, D) of unit length, one for each image.
        annotated: (M, D), those of images that are annotated already.
    """
    similarity = descriptors @ descriptors.mT
    number = len(similarity)
    best, owner = similarity.new_full((number,), -1.0), torch.full((number,), -1)
    if annotated is not None and len(annotated):
        best, owner = (descriptors @ annotated.mT).max(dim=1)
        owner = owner + number
    found: list[Suggestion] = []
    for _ in range(min(count, number)):
        nearer = (similarity - best[:, None]).clamp(min=0)
        gains = nearer.sum(dim=0)
        gains[[each.place for each in found]] = -1
        place = int(gains.argmax())
        before = None if owner[place] < 0 else int(owner[place])
        stands_for = int((nearer[:, place] > 0).sum())
        found.append(Suggestion(place, float(gains[place]), stands_for, before, float(best[place])))
        closer = similarity[:, place] > best
        best, owner = torch.where(closer, similarity[:, place], best), torch.where(closer, place, owner)
    return found
