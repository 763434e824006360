"""Any photographs as a benchmark: each beside a random view of itself, with exact ground truth.

The target is a view of the photograph through a map from target pixels to source pixels, a homography or one bent
further by a thin-plate spline. The truth is that map at a lattice of target pixels, read the other way round: no
inversion, no rounding. Places whose source lies off the photograph (where the view shows it mirrored) are left out.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.interpolate import RBFInterpolator
from torch import Tensor

from geomatch.datasets.base import Benchmark, check_split, encoded_size
from geomatch.datasets.image_folder import LabelledImage, find_images
from geomatch.datasets.pairs import AnnotatedPair, BadRows, Points, check_pair
from geomatch.geometry.homography import WarpRanges, apply_homography, pixel_grid, random_view, sample_image

LONGER_SIDE = 480
VIEW_SIDE = 400
LATTICE_STEP = 20
BEND = 0.06  # how far each of the spline's 4 x 4 knots moves, as a share of the view's side
SEED = 0


class Kind(StrEnum):
    """The families of warps, which are the benchmark's categories."""

    homography = "homography"
    thin_plate_spline = "thin-plate spline"


@dataclass(frozen=True)
class ScaledPhotograph:
    """A photograph, made smaller if its longer side exceeds LONGER_SIDE."""

    photograph: LabelledImage
    size: tuple[int, int]

    @property
    def name(self) -> str:
        return self.photograph.name

    def load(self) -> Tensor:
        pixels = self.photograph.load()
        if pixels.shape[1:] == self.size:
            return pixels
        return F.interpolate(pixels[None], size=self.size, mode="bilinear", antialias=True)[0]

    def fingerprint(self) -> str:
        state = self.photograph.path.stat()
        return f"{self.name}:{self.photograph.offset}:{state.st_size}:{state.st_mtime_ns}:{self.size}"


@dataclass(frozen=True)
class WarpedPhotograph:
    """A random square view of a photograph, the same for the same photograph's name."""

    photograph: ScaledPhotograph
    kind: Kind

    @property
    def name(self) -> str:
        return f"{self.photograph.name} ({self.kind})"

    def load(self) -> Tensor:
        points = torch.from_numpy(self.to_photograph()(pixel_grid(VIEW_SIDE, VIEW_SIDE).numpy()))
        colours = sample_image(self.photograph.load().float(), points)
        return colours.round().clamp(0, 255).byte().reshape(3, VIEW_SIDE, VIEW_SIDE)

    def fingerprint(self) -> str:
        return f"{self.photograph.fingerprint()}:{self.kind}"

    def to_photograph(self) -> Callable[[Points], Points]:
        """The map from pixels (N, 2) of the view to pixels of the photograph."""
        generator = torch.Generator().manual_seed(zlib.crc32(self.name.encode()) + SEED)
        homography = random_view(self.photograph.size, VIEW_SIDE, WarpRanges(), generator)
        if self.kind is Kind.homography:
            return lambda points: apply_homography(homography, torch.from_numpy(points)).numpy()
        knots = (pixel_grid(4, 4) * (VIEW_SIDE - 1) / 3).numpy()
        moves = torch.rand((16, 2), generator=generator, dtype=torch.float64).numpy() * 2 - 1
        bent = RBFInterpolator(knots, knots + BEND * VIEW_SIDE * moves, kernel="thin_plate_spline")
        return lambda points: apply_homography(homography, torch.from_numpy(bent(points))).numpy()


def splits(root: Path) -> tuple[str, ...]:
    return ("test",) if root.is_dir() else ()


def load(root: Path, split: str, bad: BadRows) -> list[AnnotatedPair]:
    """Two pairs a photograph, one of each kind. ``root``: images, in sub-folders too, or tar shards of them."""
    check_split(WARPS.name, split, ["test"])
    pairs = []
    for photograph in find_images([root]):
        with bad.tolerated():
            source = ScaledPhotograph(photograph, _scaled_size(photograph))
            pairs += [_pair(source, kind) for kind in Kind]
    return pairs


def _scaled_size(photograph: LabelledImage) -> tuple[int, int]:
    height, width = encoded_size(photograph.open(), photograph.name)
    scale = min(1.0, LONGER_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


@cache
def _lattice() -> Points:
    return pixel_grid(VIEW_SIDE // LATTICE_STEP, VIEW_SIDE // LATTICE_STEP).numpy() * LATTICE_STEP + LATTICE_STEP // 2


def _pair(source: ScaledPhotograph, kind: Kind) -> AnnotatedPair:
    view = WarpedPhotograph(source, kind)
    seen = view.to_photograph()(_lattice())
    height, width = source.size
    inside = ((seen >= 0) & (seen <= np.array([width - 1, height - 1]))).all(axis=1)
    pair = AnnotatedPair(source, view, kind, seen[inside], _lattice()[inside], origin=view.name)
    check_pair(pair, source.size, (VIEW_SIDE, VIEW_SIDE))
    return pair


WARPS = Benchmark(
    name="warps",
    about="random homographies and thin-plate splines of your own photographs, exact truth",
    home="your own photographs",
    archives="any folder of photographs",
    splits=splits,
    load=load,
)
