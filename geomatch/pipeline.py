"""Two images to features, to target points, to a correspondence for every pixel: the public `Pipeline`."""

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
from geomatch.matching.base import MatchContext, Matcher, TargetPoints
from geomatch.matching.densify import Densification, densify
from geomatch.matching.load import load_matcher
from geomatch.options import DEFAULT_MAX_MEMORY, PRESETS, Device, Precision, Preset, PresetSettings
from geomatch.registry import MATCHERS
from geomatch.runtime.device import find_device

Image: TypeAlias = str | os.PathLike[str] | Pillow.Image | NDArray[np.uint8] | Tensor
"""A path; a Pillow image of any mode; an array (H, W, 3) or (H, W), or a tensor (3, H, W), both uint8, RGB or grey."""

Choice = TypeVar("Choice", bound=StrEnum)


class Pipeline:
    """Extracts the features of images and matches them.

    The network is loaded once. An image that is matched several times needs extracting only once:

    >>> pipeline = Pipeline(preset="fast", device="cpu")
    >>> first, second, third = np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), np.uint8)
    >>> features = pipeline.extract(first)
    >>> [tuple(pipeline.match(features, target).flow.shape) for target in (second, third)]
    [(2, 64, 96), (2, 64, 96)]

    Several threads may use a pipeline. They take turns in extracting and in matching, because each uses all cores and
    up to ``max_memory`` bytes.

    Attributes:
        extractor: extracts the features.
        matcher, matcher_name: finds target points, and its name.
        preset: the name of the settings, or "custom".
        cells: least number of cells, approximately, that are matched along an image's longer side. Coarser features
            are interpolated to a whole multiple of their grid.
        max_bytes: bound on the memory that matching takes, features and result excluded.
        densification: how target points become flow.
        device: where features and matches are computed.
    """

    def __init__(
        self,
        *,
        features: str | FeatureExtractor | None = None,
        matcher: str | Matcher | None = None,
        parameters: Mapping[str, object] | None = None,
        preset: str | PresetSettings = Preset.default,
        weights: str | os.PathLike[str] | None = None,
        device: str | torch.device = Device.auto,
        max_memory: int = DEFAULT_MAX_MEMORY,
        min_confidence: float = 0.0,
        cache: str | os.PathLike[str] | None = None,
        precision: str = Precision.auto,
    ) -> None:
        """Load features and matcher.

        Args:
            features: a name, with an argument if it takes one, such as "anchornet:cat", or an extractor. By default
                the features that ``weights`` belong to, else the preset's.
            matcher: a name, or a matcher. By default the preset's.
            parameters: values of the matcher's parameters by name; the others keep their defaults.
            preset: "fast", "default", "precise", or your own settings.
            weights: a safetensors file instead of the shipped one.
            device: "auto", "cpu", "cuda" or "mps", or a torch device.
            max_memory: bytes that matching may take, features and result excluded.
            min_confidence: the confidence, in [0, 1], that a match needs to be valid.
            cache: a folder that stores features in half precision for later runs.
            precision: arithmetic of the networks, "float32", "bfloat16", or "auto": bfloat16 where the hardware
                multiplies it natively. An extractor that is given keeps its own.

        Raises:
            GeomatchError: if a name or a value is unknown, or if the weights or the folder cannot be used.
        """
        settings = preset if isinstance(preset, PresetSettings) else PRESETS[_choice(Preset, "preset", preset)]
        self.preset = "custom" if isinstance(preset, PresetSettings) else str(preset)
        self.device = device if isinstance(device, torch.device) else find_device(_choice(Device, "device", device))
        self.cells, self.max_bytes = settings.cells, max_memory
        self.densification = Densification(min_confidence=min_confidence)
        self._set_matcher(matcher or settings.matcher, parameters)
        if not isinstance(features, FeatureExtractor):
            path = None if weights is None else Path(weights)
            name = features or (features_of(path) if path else settings.features)
            features = load_features(
                name,
                working_size=settings.working_size,
                device=self.device,
                weights=path,
                precision=_choice(Precision, "precision", precision),
            )
        self.extractor = CachedFeatures(features, Path(cache), self.device) if cache is not None else features
        self._extracting, self._matching = Lock(), Lock()

    def with_matcher(self, matcher: str | Matcher, parameters: Mapping[str, object] | None = None) -> Pipeline:
        """A pipeline with the same features and another matcher; the network is shared.

        Args:
            matcher: a name, or a matcher.
            parameters: values of its parameters by name; the others keep their defaults.

        Raises:
            GeomatchError: if the name, a parameter or its value is unknown.
        """
        other = copy(self)
        other._set_matcher(matcher, parameters)
        return other

    def extract(self, image: Image) -> FeatureMap:
        """Extract an image's features; pass them to `match` in place of the image.

        They fit this pipeline, and others with the same features, preset, device and kind of matcher.

        Args:
            image: see `Image`.

        Returns:
            Features on the pipeline's device, with what the matcher reads of the image itself.

        Raises:
            GeomatchError: if the image cannot be matched, naming the file, or the array's shape and dtype; and if
                memory runs out.
        """
        pixels = pixels_of(image)
        with self._extracting, explain_out_of_memory():
            return self.prepare(self.extractor(pixels), pixels)

    def prepare(self, features: FeatureMap, image: Tensor) -> FeatureMap:
        """Add what the matcher reads of the image (3, H, W) uint8 itself to features of another matcher's pipeline."""
        return self.matcher.prepare(features, image)

    def match(self, source: Image | FeatureMap, target: Image | FeatureMap) -> Correspondence:
        """Find the corresponding position in the target for every pixel of the source.

        Args:
            source, target: images, or the features that `extract` returned for them.

        Returns:
            Flow (x, y) in pixels of the images as given, with pixel centres at integers; confidence and validity. The
            tensors are on the pipeline's device.

        Raises:
            GeomatchError: as `extract` does; if features lack what the matcher reads; and if memory runs out.
        """
        with self._matched(source, target) as (context, forward, backward):
            return densify(context, forward, backward, self.densification)

    def match_both_ways(
        self, source: Image | FeatureMap, target: Image | FeatureMap
    ) -> tuple[Correspondence, Correspondence]:
        """`match` of the source to the target and of the target to the source, in little more time than one of them."""
        with self._matched(source, target) as (context, forward, backward):
            return (
                densify(context, forward, backward, self.densification),
                densify(context.reversed, backward, forward, self.densification),
            )

    @contextmanager
    def _matched(
        self, source: Image | FeatureMap, target: Image | FeatureMap
    ) -> Iterator[tuple[MatchContext, TargetPoints, TargetPoints]]:
        """A pair and its target points both ways, while no other thread is matching."""
        with explain_out_of_memory():
            source, target = (each if isinstance(each, FeatureMap) else self.extract(each) for each in (source, target))
            context = MatchContext(*self.upsample(source, target), self.max_bytes)
            with self._matching:
                yield context, *self.matcher(context)

    def _set_matcher(self, matcher: str | Matcher, parameters: Mapping[str, object] | None) -> None:
        if isinstance(matcher, Matcher):
            self.matcher, self.matcher_name = matcher, type(matcher).__name__
        else:
            self.matcher, self.matcher_name = load_matcher(matcher, parameters), MATCHERS.canonical(matcher)

    def upsample(self, source: FeatureMap, target: FeatureMap) -> tuple[FeatureMap, FeatureMap]:
        """The features on the grids that are matched, with about ``cells`` or more cells along the longer side."""
        factor = max(1, round(self.cells / max(source.grid.shape)))
        return source.upsampled(factor), target.upsampled(factor)

    def settings(self) -> dict[str, Any]:
        """Every setting, resolved, ready for JSON. The keys are part of the format of match.json."""
        calibration = self.extractor.calibration
        return {
            "working_size": self.extractor.working_size,
            "precision": self.extractor.precision,
            "arithmetic": self.extractor.arithmetic,
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
    device: str | torch.device = Device.auto,
    max_memory: int = DEFAULT_MAX_MEMORY,
    min_confidence: float = 0.0,
    cache: str | os.PathLike[str] | None = None,
    precision: str = Precision.auto,
) -> Correspondence:
    """Match two images with a `Pipeline` that is made for this one call.

    Loading the weights takes longer than matching; for more than one pair, make a `Pipeline`.

    Args:
        source, target: images, see `Image`. The keyword arguments are those of `Pipeline`.

    Returns:
        For every pixel of the source the corresponding position in the target; see `Correspondence`.

    Raises:
        GeomatchError: as `Pipeline` and `Pipeline.match` do.
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
        precision=precision,
    )
    return pipeline.match(source, target)


def pixels_of(image: Image) -> Tensor:
    """An image of any accepted type as (3, H, W) uint8 RGB. Raises InputError if it cannot be matched.

    >>> pixels_of(np.zeros((32, 48), np.uint8)).shape
    torch.Size([3, 32, 48])
    """
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
def explain_out_of_memory() -> Iterator[None]:
    """Turn the errors of torch and Python for missing memory into an OutOfMemoryError that says what to do."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemoryError(_ADVICE) from error
    except RuntimeError as error:
        # On a CPU torch raises a plain RuntimeError.
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
