"""A view: a part of an image, (left, top, right, bottom), whose sides lie between pixels.

The view of a whole image of W x H pixels is (-1/2, -1/2, W - 1/2, H - 1/2).
"""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor

View: TypeAlias = tuple[float, float, float, float]


def part_of(image: Tensor, view: View) -> Tensor:
    """The part of an image (..., H, W) in a view; it shares the image's memory.

    >>> import torch
    >>> part_of(torch.arange(12).reshape(3, 4), (0.5, -0.5, 2.5, 1.5))
    tensor([[1, 2],
            [5, 6]])
    """
    left, top, right, bottom = (round(side + 0.5) for side in view)
    return image[..., top:bottom, left:right]


def longer_side(view: View) -> float:
    """In pixels."""
    left, top, right, bottom = view
    return max(right - left, bottom - top)


def flip_view(view: View, width: int) -> View:
    """The same part of the image, ``width`` pixels wide, flipped left to right."""
    left, top, right, bottom = view
    return width - 1 - right, top, width - 1 - left, bottom
