"""Selective search (Uijlings et al., IJCV 2013): boxes that may hold objects, from segments merged step by step."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from geomatch.geometry.boxes import Boxes
from geomatch.geometry.canvas import Canvas
from geomatch.geometry.grid import rescale_position
from geomatch.runtime.optional import import_opencv

WORKING_SIZE = 400
"""The longer side, in pixels, that images are resized to first; segments have at least some 100 pixels there."""


def selective_search(image: Tensor) -> Boxes:
    """Boxes of an image (3, H, W) uint8 RGB, by OpenCV's fast mode: (B, 4) float64, B > 0.

    A box is left, top, right, bottom in pixels of the image; the whole image is -.5, -.5, W - .5, H - .5. No two are
    equal. They are sorted by falling area, then by left, top and width, because OpenCV's order is random.

    Raises InputError without OpenCV.
    """
    cv2 = import_opencv("selective search")
    canvas = Canvas.fit((image.shape[1], image.shape[2]), WORKING_SIZE, margin=0)
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(canvas.draw_bytes(image).flip(2).numpy()))  # in the order BGR
    search.switchToSelectiveSearchFast()
    left, top, width, height = np.unique(np.asarray(search.process()), axis=0).T
    order = np.lexsort((width, top, left, -width * height))
    edges = torch.from_numpy(np.stack((left, top, left + width, top + height), axis=1)[order]) - 0.5
    across = rescale_position(edges[:, 0::2], canvas.working_size[1], canvas.image_size[1])
    down = rescale_position(edges[:, 1::2], canvas.working_size[0], canvas.image_size[0])
    boxes: Boxes = torch.stack((across[:, 0], down[:, 0], across[:, 1], down[:, 1]), dim=1).double().numpy()
    return boxes
