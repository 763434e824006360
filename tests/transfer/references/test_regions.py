"""Masks that several references put on a target are fused by the votes around each pixel."""

import numpy as np
import torch

from geomatch.annotations import Instance, Region
from geomatch.correspondence import Correspondence
from geomatch.transfer.references.regions import fuse_masks

SIZE = (120, 160)


def fused(*marked: np.ndarray) -> np.ndarray:
    """The mask that references, each matched with itself, put on a target."""
    every = torch.ones(SIZE)
    stay = Correspondence(torch.zeros(2, *SIZE), every, every.bool(), SIZE, SIZE)
    found = fuse_masks(Region(marked[0]), [([Instance("cat", 1, Region(mask))], stay) for mask in marked])
    assert found is not None
    return found[0].mask


def rectangle(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


def test_ragged_edge_is_smoothed() -> None:
    truth = rectangle(30, 90, 40, 120)
    ragged = truth.copy()
    ragged[88:92, 40:120:4] = ragged[88:92, 41:120:4] = True  # teeth of two pixels below the edge
    ragged[86:90, 42:120:4] = ragged[86:90, 43:120:4] = False
    heights = [mask[:, 50:110].sum(axis=0) for mask in (fused(ragged), ragged)]
    assert np.ptp(heights[0]) < np.ptp(heights[1]) / 2
    np.testing.assert_allclose(heights[0], 60, atol=1)


def test_hole_of_one_pixel_is_voted_away() -> None:
    truth = rectangle(30, 90, 40, 120)
    holed = truth.copy()
    holed[60, 80] = False
    assert fused(holed)[60, 80]


def test_thin_mask_survives() -> None:
    """A pole of two pixels, where a square of seven votes: none has half of its pixels on it."""
    pole = rectangle(10, 110, 80, 82)
    np.testing.assert_array_equal(fused(pole, pole), pole)


def test_small_mask_survives() -> None:
    dot = rectangle(60, 63, 80, 83)
    np.testing.assert_array_equal(fused(dot), dot)
