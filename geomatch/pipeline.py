"""The road: two images -> features -> target points -> a correspondence for every pixel."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor

from geomatch.correspondence import Correspondence, FeatureMap
from geomatch.errors import InputError, OutOfMemoryError
from geomatch.features.base import FeatureExtractor
from geomatch.features.disk_cache import CachedFeatures
from geomatch.features.load import load_features
from geomatch.features.weights import features_of
from geomatch.io.images import checked_size, load_image, to_pixels
from geomatch.matching.base import MatchContext, Matcher
from geomatch.matching.densify import Densification, densify
from geomatch.matching.load import load_matcher
from geomatch.options import DEFAULT_MAX_MEMORY, PRESETS, Device, Preset, PresetSettings
from geomatch.registry import MATCHERS
from geomatch.runtime.device import find_device

Image: TypeAlias = str | os.PathLike[str] | Pillow.Image | NDArray[np.uint8] | Tensor
"""A file's path; a Pillow image of any mode; an array (H, W, 3) or (H, W), or a tensor (3, H, W), both uint8 RGB."""

Choice = TypeVar("Choice", bound=StrEnum)


class Pipeline:
    """Extracts the features of images and matches them.

    The network is loaded once, and each image needs extracting only once:

        pipeline = geomatch.Pipeline(preset="fast")
        source = pipeline.extract("a.png")
        flows = [pipeline.match(source, target).flow for target in ("b.png", "c.png")]

    It may be used from several threads; they take turns, since each piece of work uses all cores and as much memory as
    it was given.

    Attributes:
        extractor: makes the features. matcher: finds target points; matcher_name: what it is called.
        preset: the name that the settings go by. cells: about how many cells are matched along an image's longer side,
        at least; coarser features are interpolated to a whole multiple of their grid. max_bytes: bound on the memory
        that the matcher takes besides features and result. densification: how target points become flow. device: where
        all this is computed.
    """

    def __init__(
        self,
        *,
        features: str | FeatureExtractor | None = None,
        matcher: str | Matcher | None = None,
        parameters: Mapping[str, object] | None = None,
        preset: str | PresetSettings = Preset.default,
        weights: str | os.PathLike[str] | None = None,
        device: str = Device.auto,
        max_memory: int = DEFAULT_MAX_MEMORY,
        min_confidence: float = 0.0,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        """Load features and matcher.

        Args:
            features: a name, with an argument where it takes one, as "anchornet:cat", or an extractor; by default those
                that ``weights`` belong to, or the preset's.
            matcher: a name, or a matcher; by default the preset's.
            parameters: of the matcher, those to change from their defaults, by name.
            preset: "fast", "default", "precise", or settings of your own.
            weights: a safetensors file instead of the shipped one.
            device: "auto", "cpu", "cuda" or "mps".
            max_memory: bytes that the matcher may work in, besides the features and its result.
            min_confidence: the confidence, in [0, 1], that a match needs to be valid.
            cache: a folder that keeps features from one run to the next, in half precision.

        Raises:
            GeomatchError: for names and values that are not known, and weights or a folder that cannot be used.
        """
        settings = preset if isinstance(preset, PresetSettings) else PRESETS[_choice(Preset, "preset", preset)]
        self.preset = "custom" if isinstance(preset, PresetSettings) else str(preset)
        self.device = find_device(_choice(Device, "device", device))
        if not isinstance(features, FeatureExtractor):
            path = None if weights is None else Path(weights)
            name = features or (features_of(path) if path else settings.features)
            features = load_features(name, working_size=settings.working_size, device=self.device, weights=path)
        self.extractor = CachedFeatures(features, Path(cache), self.device) if cache is not None else features
        self.cells, self.max_bytes = settings.cells, max_memory
        self.densification = Densification(min_confidence=min_confidence)
        self._set_matcher(matcher or settings.matcher, parameters)
        self._extracting, self._matching = Lock(), Lock()

    def with_matcher(self, matcher: str | Matcher, parameters: Mapping[str, object] | None = None) -> Pipeline:
        """The same features under another matcher. Raises GeomatchError as the constructor does."""
        other = copy(self)
        other._set_matcher(matcher, parameters)
        return other

    def extract(self, image: Image) -> FeatureMap:
        """Extract an image's features; pass them to `match` in place of the image.

        They fit this pipeline, and others with the same features, preset, device and kind of matcher.

        Raises:
            GeomatchError: if it is not an image that can be matched, naming the file, or the array's shape and dtype;
                and if memory runs out.
        """
        pixels = pixels_of(image)
        with self._extracting, out_of_memory_named():
            return self.prepare(self.extractor(pixels), pixels)

    def prepare(self, features: FeatureMap, image: Tensor) -> FeatureMap:
        """Add to the features of an image (3, H, W) uint8 what the matcher needs of the image itself."""
        return self.matcher.prepare(features, image)

    def match(self, source: Image | FeatureMap, target: Image | FeatureMap) -> Correspondence:
        """Find for every pixel of the source the place in the target that means the same.

        Args:
            source, target: images, or what `extract` made of them.

        Returns:
            Positions (x, y) in pixels of the images as given, pixel centres at integers; the tensors lie on the
            pipeline's device.

        Raises:
            GeomatchError: as `extract` does, and when memory does not suffice.
        """
        with out_of_memory_named():
            context = self._context(source, target)
            with self._matching:
                forward, backward = self.matcher(context)
                return densify(context, forward, backward, self.densification)

    def match_both_ways(
        self, source: Image | FeatureMap, target: Image | FeatureMap
    ) -> tuple[Correspondence, Correspondence]:
        """`match` of the source to the target and of the target to the source, at little more than the price of one."""
        with out_of_memory_named():
            context = self._context(source, target)
            with self._matching:
                forward, backward = self.matcher(context)
                return (
                    densify(context, forward, backward, self.densification),
                    densify(context.reversed, backward, forward, self.densification),
                )

    def _context(self, source: Image | FeatureMap, target: Image | FeatureMap) -> MatchContext:
        source, target = (each if isinstance(each, FeatureMap) else self.extract(each) for each in (source, target))
        return MatchContext(*self.upsample(source, target), self.max_bytes)

    def _set_matcher(self, matcher: str | Matcher, parameters: Mapping[str, object] | None) -> None:
        if isinstance(matcher, Matcher):
            self.matcher, self.matcher_name = matcher, type(matcher).__name__
        else:
            self.matcher, self.matcher_name = load_matcher(matcher, parameters), MATCHERS.canonical(matcher)

    def upsample(self, source: FeatureMap, target: FeatureMap) -> tuple[FeatureMap, FeatureMap]:
        """The features on the grids that are matched: at least about ``cells`` along the longer side."""
        factor = max(1, round(self.cells / max(source.grid.shape)))
        return source.upsampled(factor), target.upsampled(factor)

    def settings(self) -> dict[str, Any]:
        """Every setting, resolved, ready for JSON. The keys are part of the format of match.json."""
        calibration = self.extractor.calibration
        return {
            "working_size": self.extractor.working_size,
            "precision": self.extractor.precision,
            "name": self.matcher_name,
            "method": asdict(self.matcher),  # type: ignore[call-overload]
            "cells": self.cells,
            "max_bytes": self.max_bytes,
            "densification": {
                "hearing": {"fixed_sigma": calibration.fixed_sigma, **asdict(self.densification.cues)},
                "posterior": {
                    "temperature": calibration.temperature,
                    "sureness": calibration.inverse_sigma_weight,
                    "concentration_weight": calibration.peakedness_weight,
                    "agreement_weight": calibration.agreement_weight,
                    "crowding_weight": calibration.hubness_weight,
                    "prior": calibration.prior,
                },
                "cycle_tolerance": self.densification.cycle_tolerance,
                "min_confidence": self.densification.min_confidence,
            },
            "device": self.device.type,
        }


def match(
    source: Image | FeatureMap,
    target: Image | FeatureMap,
    *,
    features: str | FeatureExtractor | None = None,
    matcher: str | Matcher | None = None,
    parameters: Mapping[str, object] | None = None,
    preset: str | PresetSettings = Preset.default,
    weights: str | os.PathLike[str] | None = None,
    device: str = Device.auto,
    max_memory: int = DEFAULT_MAX_MEMORY,
    min_confidence: float = 0.0,
    cache: str | os.PathLike[str] | None = None,
) -> Correspondence:
    """Match two images with a `Pipeline` made for this one call; the keyword arguments are the pipeline's.

    Loading the weights takes longer than the match: for more than one, make a `Pipeline`. Raises GeomatchError.
    """
    pipeline = Pipeline(
        features=features,
        matcher=matcher,
        parameters=parameters,
        preset=preset,
        weights=weights,
        device=device,
        max_memory=max_memory,
        min_confidence=min_confidence,
        cache=cache,
    )
    return pipeline.match(source, target)


def pixels_of(image: Image) -> Tensor:
    """An image, whatever it comes as, as (3, H, W) uint8 RGB. Raises InputError if it cannot be matched."""
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
                f"{_described(image)} is not an image: give a path, a Pillow image, an array (H, W, 3) or (H, W) of "
                f"uint8, or a tensor (3, H, W) of uint8"
            )
    return checked_size(pixels, _described(image))


@contextmanager
def out_of_memory_named() -> Iterator[None]:
    """Raises OutOfMemoryError, with advice, where torch or Python finds no memory."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemoryError(_ADVICE) from error
    except RuntimeError as error:
        # What torch raises on a CPU has no class of its own.
        if "not enough memory" in str(error) or "can't allocate memory" in str(error):
            raise OutOfMemoryError(_ADVICE) from error
        raise


_ADVICE = "out of memory: lower --max-memory, choose --preset fast, or make the images smaller"


def _choice(kind: type[Choice], name: str, value: str) -> Choice:
    if value not in list(kind):
        raise InputError(f"unknown {name} '{value}': the known ones are {', '.join(kind)}")
    return kind(value)


def _described(value: object) -> str:
    kind = type(value).__name__
    if isinstance(value, np.ndarray | Tensor):
        return f"{kind} of shape {tuple(value.shape)} and dtype {str(value.dtype).removeprefix('torch.')}"
    return f"{kind} of size {value.size}" if isinstance(value, Pillow.Image) else kind
