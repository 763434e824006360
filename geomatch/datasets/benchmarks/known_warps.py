"""A benchmark of any images: each image and a random view of it, with exact ground truth.

The target is rendered through a map from target pixels to source pixels: a homography, with or without a thin-plate
spline before it. The keypoints are a lattice of target pixels and their source positions, so the map is never inverted
or rounded. Lattice points whose source position lies outside the image (mirrored in the view) are left out.
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

from geomatch.annotations import Points
from geomatch.datasets.base import Benchmark, encoded_size
from geomatch.datasets.image_folder import find_images
from geomatch.datasets.image_list import LabelledImage
from geomatch.datasets.pairs import AnnotatedPair, PairErrors, check_pair
from geomatch.geometry.homography import WarpRanges, apply_homography, pixel_grid, random_view, sample_image

LONGER_SIDE = 480
VIEW_SIDE = 400
LATTICE_STEP = 20
BEND = 0.06  # largest displacement of the 4 x 4 spline knots, as a share of the view's side
SEED = 0


class WarpFamily(StrEnum):
    """The families of warps; they are the categories of the benchmark."""

    homography = "homography"
    thin_plate_spline = "thin-plate spline"


@dataclass(frozen=True)
class ScaledImage:
    """An image reduced to ``size`` (height, width)."""

    image: LabelledImage
    size: tuple[int, int]

    @property
    def name(self) -> str:
        return self.image.name

    def load(self) -> Tensor:
        pixels = self.image.load()
        if pixels.shape[1:] == self.size:
            return pixels
        return F.interpolate(pixels[None], size=self.size, mode="bilinear", antialias=True)[0]

    def fingerprint(self) -> str:
        state = self.image.path.stat()
        return f"{self.name}:{self.image.offset}:{state.st_size}:{state.st_mtime_ns}:{self.size}"


@dataclass(frozen=True)
class WarpedImage:
    """A random square view of an image; it depends on the image's name alone."""

    source: ScaledImage
    family: WarpFamily

    @property
    def name(self) -> str:
        return f"{self.source.name} ({self.family})"

    def load(self) -> Tensor:
        points = torch.from_numpy(self.to_source()(pixel_grid(VIEW_SIDE, VIEW_SIDE).numpy()))
        colours = sample_image(self.source.load().float(), points)
        return colours.round().clamp(0, 255).byte().reshape(3, VIEW_SIDE, VIEW_SIDE)

    def fingerprint(self) -> str:
        return f"{self.source.fingerprint()}:{self.family}"

    def to_source(self) -> Callable[[Points], Points]:
        """The map from pixels (N, 2) of the view to pixels of the source image."""
        generator = torch.Generator().manual_seed(zlib.crc32(self.name.encode()) + SEED)
        homography = random_view(self.source.size, VIEW_SIDE, WarpRanges(), generator)
        if self.family is WarpFamily.homography:
            return lambda points: apply_homography(homography, torch.from_numpy(points)).numpy()
        knots = (pixel_grid(4, 4) * (VIEW_SIDE - 1) / 3).numpy()
        moves = torch.rand((16, 2), generator=generator, dtype=torch.float64).numpy() * 2 - 1
        bent = RBFInterpolator(knots, knots + BEND * VIEW_SIDE * moves, kernel="thin_plate_spline")
        return lambda points: apply_homography(homography, torch.from_numpy(bent(points))).numpy()


def splits(root: Path) -> tuple[str, ...]:
    return ("test",) if root.is_dir() else ()


def load(root: Path, _split: str, errors: PairErrors) -> list[AnnotatedPair]:
    """Two pairs per image, one of each family. root: a folder of images (with sub-folders) or of tar shards."""
    pairs = []
    for image in find_images([root]):
        with errors.tolerated():
            source = ScaledImage(image, _scaled_size(image))
            pairs += [_make_pair(source, family) for family in WarpFamily]
    return pairs


def _scaled_size(image: LabelledImage) -> tuple[int, int]:
    height, width = encoded_size(image.open(), image.name)
    scale = min(1.0, LONGER_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


@cache
def _lattice() -> Points:
    return pixel_grid(VIEW_SIDE // LATTICE_STEP, VIEW_SIDE // LATTICE_STEP).numpy() * LATTICE_STEP + LATTICE_STEP // 2


def _make_pair(source: ScaledImage, family: WarpFamily) -> AnnotatedPair:
    view = WarpedImage(source, family)
    seen = view.to_source()(_lattice())
    height, width = source.size
    inside = ((seen >= 0) & (seen <= np.array([width - 1, height - 1]))).all(axis=1)
    pair = AnnotatedPair(source, view, family, seen[inside], _lattice()[inside], origin=view.name)
    return check_pair(pair, source.size)


WARPS = Benchmark(
    name="warps",
    about="random homographies and thin-plate splines of your own images, exact truth",
    home="",
    archives="a folder of your own images",
    splits=splits,
    reader=load,
)
