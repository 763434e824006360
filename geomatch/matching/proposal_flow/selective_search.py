"""Selective search (Uijlings et al., IJCV 2013): boxes that may hold objects, from segments merged step by step."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomatch.geometry.boxes import Boxes
from geomatch.geometry.canvas import Canvas
from geomatch.geometry.grid import rescale_position
from geomatch.runtime.optional import import_opencv

WORKING_SIZE = 400
"""The longer side, in pixels, that images are resized to first; segments have at least some 100 pixels there."""

FULL_SIZE = 300
"""The same of the full search: the size of the images of PF-WILLOW and PF-PASCAL, which the release takes as they are.

Its segmentation begins with other sizes of segments (50, 100, 150 and 300 pixels) than OpenCV's (150 to 600)."""

NARROWEST = 20
"""Sides, in pixels of the resized image, that a box of the full search has at least (``minBoxWidth`` in SS.m)."""


def selective_search(image: Tensor) -> Boxes:
    """Boxes of an image (3, H, W) uint8 RGB, by OpenCV's fast mode: (B, 4) float64, B > 0.

    A box is left, top, right, bottom in pixels of the image; the whole image is -.5, -.5, W - .5, H - .5. No two are
    equal. They are sorted by falling area, then by left, top and width, because OpenCV's order is random.

    Raises InputError without OpenCV.
    """
    canvas = Canvas.fit((image.shape[1], image.shape[2]), WORKING_SIZE, margin=0)
    return _in_image(_search(image, canvas, "switchToSelectiveSearchFast"), canvas)


def full_selective_search(image: Tensor) -> Boxes:
    """The same with all colour spaces and similarities, without narrow boxes, as Proposal Flow and SCNet release it.

    (B, 4) float64; B may be 0. Raises InputError without OpenCV.
    """
    canvas = Canvas.fit((image.shape[1], image.shape[2]), FULL_SIZE, margin=0)
    edges = _search(image, canvas, "switchToSelectiveSearchQuality")
    return _in_image(edges[(edges[:, 2:] - edges[:, :2]).min(axis=1) >= NARROWEST], canvas)


def _search(image: Tensor, canvas: Canvas, mode: str) -> NDArray[np.int64]:
    """Boxes (B, 4) in pixels of the canvas: left, top, and the column and row behind the last; by falling area."""
    cv2 = import_opencv("selective search")
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(canvas.draw_bytes(image).flip(2).numpy()))  # in the order BGR
    getattr(search, mode)()
    left, top, width, height = np.unique(np.asarray(search.process(), np.int64), axis=0).T
    order = np.lexsort((width, top, left, -width * height))
    return np.stack((left, top, left + width, top + height), axis=1)[order]


def _in_image(edges: NDArray[np.int64], canvas: Canvas) -> Boxes:
    """Boxes of a canvas in pixels of its image."""
    centred = torch.from_numpy(edges) - 0.5
    across = rescale_position(centred[:, 0::2], canvas.working_size[1], canvas.image_size[1])
    down = rescale_position(centred[:, 1::2], canvas.working_size[0], canvas.image_size[0])
    boxes: Boxes = torch.stack((across[:, 0], down[:, 0], across[:, 1], down[:, 1]), dim=1).double().numpy()
    return boxes
