"""Which boxes of an image, or cells of a grid over it, lie inside a mask."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.geometry.grid import Grid, read_cells

_ENOUGH = 0.5


def share_inside(mask: Tensor, boxes: Tensor) -> Tensor:
    """The share of each box's area within the image that a mask covers: (N,) float64 on the CPU, in [0, 1].

    Args:
        mask: (H, W) bool.
        boxes: (N, 4), left, top, right, bottom in pixels; sides lie between pixels, so that a box round the whole image
            runs from -1/2 to W - 1/2 and H - 1/2. A box that is outside the image has the share 0.

    >>> mask = torch.tensor([[True, True, False, False]])
    >>> share_inside(mask, torch.tensor([[-0.5, -0.5, 3.5, 0.5], [0.5, -0.5, 2.5, 0.5], [-5, -0.5, 0.5, 0.5]]))
    tensor([0.5000, 0.5000, 1.0000], dtype=torch.float64)
    """
    height, width = mask.shape
    sums = F.pad(mask.cpu().double().cumsum(0).cumsum(1), (1, 0, 1, 0))  # linear between pixels' sides
    sides = boxes.cpu().double() + 0.5
    left, right = sides[:, 0].clamp(0, width), sides[:, 2].clamp(0, width)
    top, bottom = sides[:, 1].clamp(0, height), sides[:, 3].clamp(0, height)
    x, y = torch.stack((right, left, right, left)), torch.stack((bottom, bottom, top, top))
    corners = read_cells(sums[None, None], torch.stack((x, y), dim=-1)[None])[0, 0]
    inside = corners[0] - corners[1] - corners[2] + corners[3]
    return (inside / ((right - left) * (bottom - top)).clamp(min=1e-9)).clamp(0, 1)


def mostly_inside(mask: Tensor, boxes: Tensor) -> Tensor:
    """Which boxes (N, 4) have half of their area in a mask (H, W) or more, and if none has, the largest share: (N,)."""
    share = share_inside(mask, boxes)
    return (share >= share.max().clamp(max=_ENOUGH)).to(boxes.device)


def cells_inside(mask: Tensor, grid: Grid) -> Tensor:
    """Which cells of a grid lie mostly inside a mask (H, W) of its image: (height * width,) bool, in row-major order.

    A mask so thin that no cell lies mostly inside has the cells with the largest share.
    """
    centres, half = grid.centres(mask.device), torch.tensor(grid.pitch, device=mask.device) / 2
    return mostly_inside(mask, torch.cat((centres - half, centres + half), dim=1))
