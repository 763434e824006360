"""What SCNet learns from (Han et al., ICCV 2017): which regions correspond, and the ranking loss of their scores."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomatch.annotations import Points
from geomatch.geometry.boxes import Boxes, box_iou, valid_boxes, warp_boxes
from geomatch.geometry.thin_plate_spline import ThinPlateSpline


def true_overlaps(
    source: Boxes, target: Boxes, points: tuple[Points, Points], side: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The regions on the object, and their true boxes' IoU with all boxes of the other view.

    A region of ``source`` (N, 4) is on the object if `valid_boxes` says so, the object's box being the extent of the
    keypoints. Its true box is its image under a thin-plate spline through the keypoints, clipped to the view.

    points: the keypoints (K, 2) of both views, K > 0, in pixels. side: of the views.

    Returns the indices (R,) of the regions on the object, and their overlaps (R, M) with ``target`` (M, 4).
    """
    here, there = points
    extent = (*here.min(axis=0).tolist(), *here.max(axis=0).tolist())
    on_object = np.flatnonzero(valid_boxes(source, extent, here))
    spline = ThinPlateSpline.fit(here, there)
    truth = warp_boxes(source[on_object], lambda corners: np.clip(spline(corners), -0.5, side - 0.5))
    return on_object, box_iou(truth[:, None], target[None])


def ranking_loss(scores: Tensor, overlaps: Tensor, positive: float, negative: float, margin: float = 1.0) -> Tensor:
    """The hinge loss of regions' matches and of their hardest mismatches: a scalar, 0 without matches.

    Box j of overlap o_ij > ``positive`` is a match of region i; of the boxes with o_ij <= ``negative`` as many count as
    a region has matches, those of the highest score z_ij. With y = 1 for a match and -1 for a mismatch, the loss is the
    sum of max(0, margin - y z) over both, divided by twice the number of matches (vl_nnpfloss.m).

    scores, overlaps: (R, M). Ties of scores go to the lowest index.
    """
    matches = overlaps > positive
    candidates = scores.detach().masked_fill(overlaps > negative, -torch.inf)
    order = candidates.argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    mismatches = (rank < matches.sum(dim=1, keepdim=True)) & (overlaps <= negative)
    terms = (margin - scores).relu() * matches + (margin + scores).relu() * mismatches
    return terms.sum() / (2 * matches.sum()).clamp(min=1)
