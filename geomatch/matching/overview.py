"""Two correspondences in one: that of the views of a pair, and around the source's view that of the overviews."""

from __future__ import annotations

from dataclasses import replace

import torch

from geomatch.correspondence import Correspondence
from geomatch.geometry.view import View, part_of


def surrounded(found: Correspondence, around: Correspondence, view: View | None) -> Correspondence:
    """A correspondence inside the source's view, and another of the same images around it; None: all is in view."""
    if view is None:
        return found
    inside = torch.zeros_like(found.valid)
    part_of(inside, view).fill_(True)
    return replace(
        found,
        flow=torch.where(inside, found.flow, around.flow),
        confidence=torch.where(inside, found.confidence, around.confidence),
        valid=torch.where(inside, found.valid, around.valid),
    )
