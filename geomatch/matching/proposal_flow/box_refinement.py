"""Matched boxes refined below the spacing of boxes, as `geomatch.matching.refinement.sub_cell` refines cells."""

from __future__ import annotations

import torch
from torch import Tensor


def refined_boxes(
    boxes: Tensor, partners: Tensor, near: Tensor, similarity: Tensor, own: Tensor, temperature: float
) -> Tensor:
    """Move and resize each partner by the difference of two soft-argmaxes over the boxes near it: (N, 4).

    The first weighs these boxes by their similarity to the source box, the second by their similarity to the partner
    itself; the difference is taken of centres and of logarithms of sizes. So a source box that equals its partner
    stays exactly there.

    Args:
        boxes: (M, 4), of the target.
        partners: (N,) int64, the target box of each source box.
        near: (N, M) bool, the boxes that are weighed besides the partner.
        similarity: (N, M), of the target's boxes to the source's. own: (M, M), of the target's boxes to each other.
        temperature: of the softmax, in units of similarity.
    """
    near = near.scatter(1, partners[:, None], True)
    by_source, by_partner = (
        torch.softmax((each / temperature).masked_fill_(~near, -torch.inf), dim=1)
        for each in (similarity, own[partners])
    )
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    difference = by_source - by_partner
    move, widening = difference @ centre, size[partners] / 2 * (difference @ size.log()).expm1()
    return boxes[partners] + torch.cat((move - widening, move + widening), dim=1)
