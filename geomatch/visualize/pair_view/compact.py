"""A match encoded compactly for a page: quantised numbers, deflated, as base64, with the grids they lie on."""

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
"""At most this many flow samples along an image's longer side."""
CHANNELS = 128
"""At most this many principal components of a descriptor."""
DESCRIPTOR_BYTES = 400_000
"""Limit for one image's descriptors: the more cells, the fewer components."""

Compact = Mapping[str, Any]
"""An object that `json` can write."""


def compact_match(correspondence: Correspondence) -> Compact:
    """Flow, confidence and validity, sampled on a lattice that tiles the source: one point per pixel, at most LATTICE
    along a side. They are to be read bilinearly, as `Correspondence.map_points` reads.

    ``grid``: as `Grid`, in pixels of the source. ``flow``: uint16 (2, h, w), multiples of ``step`` above ``low`` (both
    in pixels, for x and y), stored as differences from the previous number, modulo 65,536, which deflates best. The
    error is at most half a step, 1/131,070 of the range. ``confidence``: uint8 (h, w), 255 is 1. ``valid``: uint8
    (h, w), that of the nearest pixel.
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
        "flow": _encode(np.diff(steps.ravel(), prepend=steps.dtype.type(0))),
        "low": low.ravel().tolist(),
        "step": step.ravel().tolist(),
        "confidence": _encode((confidence * 255).round().astype(np.uint8)),
        "valid": _encode(correspondence.valid.cpu().flatten()[nearest].numpy().astype(np.uint8)),
    }


def compact_descriptors(*images: FeatureMap) -> list[Compact]:
    """Descriptors of images, quantised such that their dot products (the similarities) are kept approximately.

    ``grid``: as `Grid`, in pixels of the image. ``values``: int8 (cells, K). ``scales``: (K,), the same for all images.
    The similarity of cells i and j of two images is about sum_k scales_k^2 values_ik values_jk. The K axes are the
    principal axes of the uncentred descriptors: no other K axes keep all dot products better in the sum of squares
    (Eckart and Young).
    """
    cells = [image.descriptors.flatten(1).mT.cpu().double() for image in images]
    channels = min(CHANNELS, cells[0].shape[1], max(1, DESCRIPTOR_BYTES // max(map(len, cells))))
    together = torch.cat(cells)
    axes = torch.linalg.eigh(together.mT @ together).eigenvectors.flip(1)[:, :channels]
    scales = ((together @ axes).abs().amax(dim=0) / 127).clamp(min=1e-9)
    return [
        {"grid": asdict(image.grid), "scales": scales.tolist(), "values": _encode(_to_int8(each @ axes / scales))}
        for image, each in zip(images, cells, strict=True)
    ]


def _to_int8(values: Tensor) -> NDArray[np.int8]:
    return values.round().clamp(-127, 127).to(torch.int8).numpy()


def _encode(values: NDArray[Any]) -> str:
    return b64encode(zlib.compress(values.tobytes(), 9)).decode()
