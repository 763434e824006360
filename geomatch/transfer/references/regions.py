"""Masks and boxes that several references put on a target, fused: masks by vote, boxes by the median of their sides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geomatch.annotations import Box, Instance, Region
from geomatch.correspondence import Correspondence
from geomatch.transfer.transfer import clean_mask, count_pieces, transfer_regions

Found = Sequence[tuple[Sequence[Instance], Correspondence]]
"""For each reference its own objects of one label, and the flow from the target to it."""

SMOOTHING = 0.0375
"""The side of the square of pixels that vote together, as a share of the image's longer side: one and a half cells of
40, since a match is that of a whole cell."""


def fuse_masks(example: Region, found: Found, smoothing: float = SMOOTHING) -> tuple[Region, float] | None:
    """The pixels around which at least half of the references, by their matches' confidence, see an object.

    example: its encoding is that of the mask. smoothing: as `SMOOTHING`; a pixel votes alone if squares would take half
    of the mask, as of one that is thin. The mask has no more connected pieces than it has on some reference. Returns it
    and the mean share of the votes over it; None if it is empty.
    """
    most_pieces = 1
    votes = np.zeros(found[0][1].source_size, np.float32)
    total = np.full_like(votes, 1e-6)
    for objects, backward in found:
        confidence = backward.confidence.cpu().numpy()
        mask = np.any([each.shape.mask for each in objects if isinstance(each.shape, Region)], axis=0)
        most_pieces = max(most_pieces, count_pieces(mask))
        votes += confidence * backward.warp_mask(mask)
        total += confidence
    share = _smoothed_share(votes, total, smoothing)
    mask = clean_mask(share >= 0.5, share, most_pieces)
    if not mask.any():
        return None
    return Region(mask, example.encoding), float(share[mask].mean())


def _smoothed_share(votes: NDArray[np.float32], total: NDArray[np.float32], smoothing: float) -> NDArray[np.float32]:
    """The share that votes (H, W) have of the total around each pixel, or of its own if that loses half of the mask."""
    side = 2 * round(smoothing * max(votes.shape) / 2) + 1  # odd, so that straight edges stay where they are
    smooth = ndimage.uniform_filter(votes, side)
    smooth /= ndimage.uniform_filter(total, side)
    own = votes / total
    kept = np.count_nonzero(smooth >= 0.5) > np.count_nonzero(own >= 0.5) / 2
    return smooth if kept else own


def fuse_boxes(found: Found) -> tuple[Box, float] | None:
    """The weighted median of each side of the boxes that references put on a target, and their mean confidence.

    Each weighs its confidence squared. Returns None if no reference finds one.
    """
    boxes = [box for objects, backward in found for box in transfer_regions(objects, backward)]
    if not boxes:
        return None
    confidence = np.array([box.confidence for box in boxes], dtype=np.float64)
    sides = np.array([box.shape for box in boxes], dtype=np.float64)
    left, top, right, bottom = (_weighted_median(side, confidence**2) for side in sides.T)
    return (left, top, max(right, left + 1), max(bottom, top + 1)), float(confidence.mean())


def _weighted_median(values: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    """The first value, in order, up to which half of the weight lies."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weight[order])
    return float(values[order[np.searchsorted(total, total[-1] / 2)]])
