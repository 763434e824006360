"""Warp a target image onto its source."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.correspondence import Correspondence

_PIXELS_AT_ONCE = 1 << 20


def warp_to_source(target: Tensor, correspondence: Correspondence) -> Tensor:
    """The target read at each source pixel's match: (4, H, W) uint8 RGBA, in the source's frame.

    target: (3, h, w) uint8. Colours are read bilinearly; pixels that are not valid are fully transparent.
    """
    height, width = correspondence.source_size
    flow, valid = correspondence.flow.cpu(), correspondence.valid.cpu()
    target_height, target_width = correspondence.target_size
    colours = target.cpu().float()[None]
    warped = torch.empty(4, height, width, dtype=torch.uint8)
    x = torch.arange(width)
    rows_at_once = max(1, _PIXELS_AT_ONCE // width)
    for start in range(0, height, rows_at_once):
        rows = slice(start, min(start + rows_at_once, height))
        y = torch.arange(rows.start, rows.stop)[:, None]
        normalised = torch.stack(
            (
                (2 * (flow[0, rows] + x) + 1) / target_width - 1,
                (2 * (flow[1, rows] + y) + 1) / target_height - 1,
            ),
            dim=-1,
        )
        read = F.grid_sample(colours, normalised[None], padding_mode="border", align_corners=False)[0]
        warped[:3, rows] = read.round_().clamp_(0, 255).byte()
        warped[3, rows] = valid[rows].byte() * 255
    return warped
