"""Boxes of a target placed between those there are, as `search.refine` places cells."""

from __future__ import annotations

import torch
from torch import Tensor


def refined_boxes(
    boxes: Tensor, partners: Tensor, near: Tensor, seen: Tensor, own: Tensor, temperature: float
) -> Tensor:
    """Move each partner by how the soft-argmaxes, over the boxes near it, of similarity to its source box and of
    similarity to itself differ, in centre and logarithm of size: a box that looks like its partner lies right on it.

    boxes: (M, 4), of the target. partners: (N,) int64, which of them each source box has. near: (N, M) bool, the boxes
    to look at besides the partner. seen: (N, M), similarities to the source boxes; own: (M, M), to each other.
    temperature: of the softmax, in units of similarity. Returns (N, 4).
    """
    near = near.scatter(1, partners[:, None], True)
    at_source, at_partner = (
        torch.softmax((likeness / temperature).masked_fill_(~near, -torch.inf), dim=1)
        for likeness in (seen, own[partners])
    )
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    difference = at_source - at_partner
    move, widening = difference @ centre, size[partners] / 2 * (difference @ size.log()).expm1()
    return boxes[partners] + torch.cat((move - widening, move + widening), dim=1)
