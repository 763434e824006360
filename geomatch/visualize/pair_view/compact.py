"""A match made small enough to travel inside a page: numbers in few bits, deflated, as base64, and where they lie."""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomatch.correspondence import Correspondence, FeatureMap
from geomatch.geometry.grid import Grid, read_cells

LATTICE = 512
"""Points along an image's longer side, at most, at which its flow is told."""
CHANNELS = 128
"""Principal components, at most, that stand for a descriptor."""
DESCRIPTOR_BYTES = 400_000
"""Of one image's descriptors, at most: many cells have fewer components."""

Compact = Mapping[str, Any]
"""What `json` can write."""


def compact_match(correspondence: Correspondence) -> Compact:
    """The flow on a lattice that tiles the source, one point a pixel unless that were more than LATTICE along a side.

    ``grid``: as `Grid`, in pixels of the source. ``flow``: uint16 (2, h, w), steps above ``low``, with ``low`` and
    ``step`` in pixels for x and y: off by at most half a step, a 131,070th of the flow's range; each number is told as
    what it exceeds the one before by, modulo 65,536, which deflates best. ``confidence``: uint8 (h, w), in 255ths.
    ``valid``: uint8 (h, w), that of the nearest pixel. To be read bilinearly, as `Correspondence.transfer` reads.
    """
    size = correspondence.source_size
    scale = min(1, LATTICE / max(size))
    grid = Grid.over(size, *(max(1, round(length * scale)) for length in size))
    centres = grid.centres()
    flow = read_cells(correspondence.flow.cpu()[None], centres[None])[0].double().numpy()
    low, high = flow.min(axis=1, keepdims=True), flow.max(axis=1, keepdims=True)
    step = np.maximum((high - low) / 65535, 1e-6)
    confidence = read_cells(correspondence.confidence.cpu()[None, None], centres[None])[0, 0].numpy()
    steps = ((flow - low) / step).round().astype("<u2")
    nearest = Grid.over(size, *size).nearest(centres)
    return {
        "grid": asdict(grid),
        "flow": _text(np.diff(steps.ravel(), prepend=steps.dtype.type(0))),
        "low": low.ravel().tolist(),
        "step": step.ravel().tolist(),
        "confidence": _text((confidence * 255).round().astype(np.uint8)),
        "valid": _text(correspondence.valid.cpu().flatten()[nearest].numpy().astype(np.uint8)),
    }


def compact_descriptors(*images: FeatureMap) -> list[Compact]:
    """Descriptors of images in few bits, such that their dot products, the similarities, stay what they are.

    ``grid``: as `Grid`, in pixels of the image. ``values``: int8 (cells, K), ``scales``: (K,), the same for all images:
    the similarity of cells i and j of any two of them is about sum_k scales_k^2 values_ik values_jk. The K axes are
    those along which descriptors are longest in the mean square (no mean is taken away): no other K keep dot products
    better, in the sum of squares over all pairs of cells (Eckart and Young).
    """
    cells = [image.descriptors.flatten(1).mT.cpu().double() for image in images]
    channels = min(CHANNELS, cells[0].shape[1], max(1, DESCRIPTOR_BYTES // max(map(len, cells))))
    together = torch.cat(cells)
    axes = torch.linalg.eigh(together.mT @ together).eigenvectors.flip(1)[:, :channels]
    scales = ((together @ axes).abs().amax(dim=0) / 127).clamp(min=1e-9)
    return [
        {
            "grid": asdict(image.grid),
            "scales": scales.tolist(),
            "values": _text(_rounded(each @ axes / scales)),
        }
        for image, each in zip(images, cells, strict=True)
    ]


def _rounded(values: Tensor) -> NDArray[np.int8]:
    return values.round().clamp(-127, 127).to(torch.int8).numpy()


def _text(values: NDArray[Any]) -> str:
    return b64encode(zlib.compress(values.tobytes(), 9)).decode()
