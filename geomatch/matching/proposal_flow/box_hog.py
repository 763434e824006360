"""HOG descriptors of boxes, from their own pixels instead of an image's features (Ham et al., PAMI 2018)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.features.handcrafted.gradient_histograms import CELL, CHANNELS, cells_in_blocks, condense


def hog_of_boxes(image: Tensor, boxes: Tensor, bins: int) -> Tensor:
    """Descriptors (B, bins * bins * 31) float32 of boxes (B, 4) of an image (3, H, W) uint8, on the CPU.

    boxes: left, top, right, bottom in pixels of the image. Each is resized to ``bins`` x ``bins`` cells, whatever its
    size and shape, so a small box has as much detail as a large one. Order: by row, column, channel. Unlike features,
    cells do not have unit length: one without texture is small. Raises InputError without OpenCV.
    """
    descriptors = torch.empty(len(boxes), bins * bins * CHANNELS)
    for row, box in zip(descriptors, boxes.tolist(), strict=True):
        pixels = resized_crop(image, box, bins).permute(1, 2, 0).numpy()
        row[:] = torch.from_numpy(condense(cells_in_blocks(np.ascontiguousarray(pixels), CELL)).reshape(-1))
    return descriptors


def resized_crop(image: Tensor, box: list[float], bins: int) -> Tensor:
    """The pixels of a box and a margin of one cell, resized: (3, side, side) uint8, side = CELL (bins + 2).

    The blocks of the outermost cells reach into the margin. Edges are rounded to pixels; beyond the image's border its
    last pixels are repeated.
    """
    indices = []
    for first, last, length in ((box[1], box[3], image.shape[1]), (box[0], box[2], image.shape[2])):
        margin = (last - first) / bins
        begin, end = round(first - margin + 0.5), round(last + margin + 0.5)
        indices.append(torch.arange(begin, max(end, begin + 1)).clamp(0, length - 1))
    window = image[:, indices[0]][:, :, indices[1]]
    side = CELL * (bins + 2)
    return F.interpolate(window[None], (side, side), mode="bilinear", antialias=True)[0]
