"""The Python API: images as they come, matched in one call, or described once and matched many times."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypedDict, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor

from geomatch.correspondence import Correspondence, FeatureMap, RegionMatches
from geomatch.errors import GeomatchError, InputError
from geomatch.io.images import checked_size, load_image, to_pixels
from geomatch.options import Device, Preset
from geomatch.pipeline import Pipeline

__all__ = ["Choices", "Correspondence", "FeatureMap", "GeomatchError", "Image", "Matcher", "RegionMatches", "match"]

Image: TypeAlias = str | os.PathLike[str] | Pillow.Image | NDArray[np.uint8] | Tensor
"""A file's path; a Pillow picture of any mode; an array (H, W, 3) or (H, W), or a tensor (3, H, W), both uint8 RGB."""


class Choices(TypedDict, total=False):
    """What `Matcher` and `match` can be told, all by name, all with the defaults of `geomatch match`.

    features: a name, with an argument where it takes one, as "anchornet:cat"; by default those that ``weights`` are
        of, or the preset's.
    matcher: a name; by default the preset's. parameters: those of the matcher to change, by name.
    preset: "fast", "default" or "precise". weights: a safetensors file instead of the shipped ones.
    device: "auto", "cpu", "cuda" or "mps".
    max_memory: bytes that the matcher may work in, besides the features and its result; 2 GiB by default.
    min_confidence: what a match needs to be valid, 0 by default.
    cache: folder in which features are kept from one time to the next; none by default.
    """

    features: str | None
    matcher: str | None
    parameters: Mapping[str, object]
    preset: str
    weights: str | os.PathLike[str] | None
    device: str
    max_memory: int
    min_confidence: float
    cache: str | os.PathLike[str] | None


class Matcher:
    """Finds what corresponds between images: its network is loaded once, and each image need be described only once.

        matcher = geomatch.Matcher(preset="fast")
        mine = matcher.describe("a.png")
        flows = [matcher.match(mine, other).flow for other in ("b.png", "c.png")]

    pipeline: what works behind it.
    """

    def __init__(self, **choices: Unpack[Choices]) -> None:
        """See `Choices`. Raises GeomatchError for names, values and weights that cannot be used."""
        self.pipeline = Pipeline.build(**_for_pipeline(choices))

    def describe(self, image: Image) -> FeatureMap:
        """The features of an image, for `match` to take in its stead.

        They belong to this matcher and to others with the same features, preset and device. Raises GeomatchError,
        naming the file, or the array's shape and dtype, if it is no image that can be matched.
        """
        return self.pipeline.describe(pixels_of(image))

    def match(self, source: Image | FeatureMap, target: Image | FeatureMap) -> Correspondence:
        """Where every pixel of the source lies in the target; either is an image, or what `describe` made of one.

        Positions are (x, y) in pixels of the images as given, pixel centres at integers; the result's tensors lie on
        the matcher's device. Raises GeomatchError as `describe` does, and when memory does not suffice.
        """
        return self.pipeline.match(*(e if isinstance(e, FeatureMap) else self.describe(e) for e in (source, target)))


def match(source: Image, target: Image, **choices: Unpack[Choices]) -> Correspondence:
    """Where every pixel of one image lies in another: `Matcher.match` of a `Matcher` made for this one call.

    The choices are those of `Choices`. Loading the weights takes longer than the match: for more than one, make a
    `Matcher`. Raises GeomatchError.
    """
    return Matcher(**choices).match(source, target)


def pixels_of(image: Image) -> Tensor:
    """An image, whatever it comes as, as (3, H, W) uint8 RGB. Raises InputError if it is none that can be matched."""
    match image:
        case str() | os.PathLike():
            return load_image(Path(image))
        case Pillow.Image():
            pixels = to_pixels(image)
        case np.ndarray(dtype=np.uint8, ndim=2):
            pixels = torch.from_numpy(image.copy()).expand(3, -1, -1)
        case np.ndarray(dtype=np.uint8, shape=(_, _, 3)):
            pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)
        case Tensor(dtype=torch.uint8, shape=(3, _, _)):
            pixels = image
        case _:
            raise InputError(
                f"{_described(image)} is no image: give a path, a Pillow image, an array (H, W, 3) or (H, W) of uint8, "
                f"or a tensor (3, H, W) of uint8"
            )
    return checked_size(pixels, _described(image))


def _for_pipeline(choices: Choices) -> dict[str, Any]:
    """The same choices as `Pipeline.build` takes them. Raises InputError for an unknown preset or device."""
    given: dict[str, Any] = dict(choices)
    for name, kind in (("preset", Preset), ("device", Device)):
        if given.get(name, next(iter(kind))) not in list(kind):
            raise InputError(f"unknown {name} '{given[name]}': the known ones are {', '.join(kind)}")
        if name in given:
            given[name] = kind(given[name])
    for name in ("weights", "cache"):
        if given.get(name) is not None:
            given[name] = Path(given[name])
    return given


def _described(value: object) -> str:
    kind = type(value).__name__
    if isinstance(value, np.ndarray | Tensor):
        return f"{kind} of shape {tuple(value.shape)} and dtype {str(value.dtype).removeprefix('torch.')}"
    return f"{kind} of size {value.size}" if isinstance(value, Pillow.Image) else kind
