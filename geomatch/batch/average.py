"""Several images of one kind of object, matched with one of them and averaged in its frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geomatch.errors import InputError
from geomatch.io.images import load_image
from geomatch.options import Beyond
from geomatch.pipeline import Pipeline
from geomatch.visualize.match_pictures.average import AveragePicture

_FEATHERING = 0.08
"""Of each warp; wide, so that the edges of many warps do not show as blots."""


@dataclass(frozen=True)
class AveragedImage:
    """How an image was used. confidence: of the match from the reference, its mean. reached: share of the reference."""

    path: Path
    confidence: float
    reached: float


@dataclass(frozen=True)
class Average:
    """A joint picture, (H, W, 4) uint8 RGBA in the frame of the reference, and the images it is of, in their order."""

    picture: NDArray[np.uint8]
    images: Sequence[AveragedImage]


def average_images(
    reference: Path, images: Sequence[Path], pipeline: Pipeline, on_image: Callable[[], object] = lambda: None
) -> Average:
    """The confidence-weighted mean of images, each warped onto a reference by a smooth flow; see `AveragePicture`.

    Args:
        reference: in whose frame the picture is. Where it is among the images it is not matched with itself.
        images: any number, at least one besides the reference.
        on_image: called after each image.

    Raises:
        GeomatchError: if an image cannot be used, or there is none besides the reference.
    """
    others = [image for image in images if not _is_same(image, reference)]
    if not others:
        raise InputError(f"{reference}: there is no other image to average it with; give two images or more")
    pixels = load_image(reference)
    features, picture, used = pipeline.extract(pixels), AveragePicture(pixels), []
    for path in others:
        image = load_image(path)
        found = pipeline.match(features, image)
        warped = found.smooth(pixels, Beyond.plate).warp(image, _FEATHERING)
        reached = picture.add(warped, found.confidence)
        used.append(AveragedImage(path, found.mean_confidence, reached))
        on_image()
    return Average(picture.pixels(), used)


def _is_same(image: Path, other: Path) -> bool:
    return image == other or (image.exists() and other.exists() and image.samefile(other))
