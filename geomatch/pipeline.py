"""The road: two images -> features -> matching -> Correspondence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

from geomatch.correspondence import Correspondence, FeatureMap
from geomatch.errors import OutOfMemoryError
from geomatch.features.base import FeatureExtractor
from geomatch.features.disk_cache import DiskCache
from geomatch.features.load import features_of, load_features
from geomatch.matching.densify import Densification
from geomatch.matching.matcher import Matcher
from geomatch.options import DEFAULT_MAX_MEMORY, PRESETS, Device, Preset
from geomatch.runtime.device import find_device


@dataclass(frozen=True)
class Pipeline:
    """Features and a matcher, ready to use: describe each image once, match it as often as you like."""

    extractor: FeatureExtractor
    matcher: Matcher
    device: torch.device

    @classmethod
    def build(
        cls,
        *,
        features: str | None = None,
        matcher: str | None = None,
        parameters: Mapping[str, object] | None = None,
        preset: Preset = Preset.default,
        weights: Path | None = None,
        device: Device = Device.auto,
        max_memory: int = DEFAULT_MAX_MEMORY,
        min_confidence: float = 0.0,
        cache: Path | None = None,
    ) -> Pipeline:
        """Put a pipeline together.

        features, weights: as in `geomatch.features.load.load_features`; None for the features that the weights
        given are of, or else the preset's. matcher: a name, None for the preset's.
        parameters: those of the matcher to change, by name.
        max_memory: bytes the matcher may work in, besides the features and its result. min_confidence: what a match
        needs to be valid. cache: folder in which features are kept from one time to the next, in half precision.

        Raises InputError for unknown names and a cache that cannot be written, WeightsError for weights that cannot be
        used.
        """
        chosen, place = PRESETS[preset], find_device(device)
        features = features or (features_of(weights) if weights else chosen.features)
        extractor = load_features(features, working_size=chosen.working_size, device=place, weights=weights)
        return cls(
            DiskCache(extractor, cache, place) if cache else extractor,
            replace(
                Matcher.named(matcher or chosen.matcher, parameters),
                cells=chosen.cells,
                max_bytes=max_memory,
                densification=Densification(min_confidence=min_confidence),
            ),
            place,
        )

    def with_matcher(self, name: str, parameters: Mapping[str, object] | None = None) -> Pipeline:
        """The same features under another matcher. Raises InputError for an unknown name or parameter."""
        named = Matcher.named(name, parameters)
        return replace(self, matcher=replace(self.matcher, name=named.name, method=named.method))

    def settings(self) -> dict[str, object]:
        """Every setting, resolved, for the record of a match. The keys are part of the format of match.json."""
        densification, calibration = self.matcher.densification, self.extractor.calibration
        return {
            "working_size": self.extractor.working_size,
            "precision": self.extractor.precision,
            "name": self.matcher.name,
            "method": asdict(self.matcher.method),  # type: ignore[call-overload]
            "cells": self.matcher.cells,
            "max_bytes": self.matcher.max_bytes,
            "densification": {
                "hearing": {"fixed_sigma": calibration.fixed_sigma, **asdict(densification.cues)},
                "posterior": {
                    "temperature": calibration.temperature,
                    "sureness": calibration.inverse_sigma_weight,
                    "concentration_weight": calibration.peakedness_weight,
                    "agreement_weight": calibration.agreement_weight,
                    "crowding_weight": calibration.hubness_weight,
                    "prior": calibration.prior,
                },
                "cycle_tolerance": densification.cycle_tolerance,
                "min_confidence": densification.min_confidence,
            },
            "device": self.device.type,
        }

    def describe(self, image: Tensor) -> FeatureMap:
        """Features of an image (3, H, W) uint8. Raises OutOfMemoryError."""
        with out_of_memory_named():
            return self.prepare(self.extractor(image), image)

    def prepare(self, features: FeatureMap, image: Tensor) -> FeatureMap:
        """Add to an image's features what the matcher needs of the image (3, H, W) uint8 itself."""
        return self.matcher.method.prepare(features, image)

    def match(self, source: FeatureMap, target: FeatureMap) -> Correspondence:
        """Where every source pixel lies in the target. Raises OutOfMemoryError."""
        with out_of_memory_named():
            return self.matcher(source, target)


@dataclass(frozen=True)
class SharedPipeline(Pipeline):
    """A pipeline for several threads: it describes one image and matches one pair at a time, since each uses all the
    cores and as much memory as it was given."""

    _describing: Lock = field(default_factory=Lock, repr=False, compare=False)
    _matching: Lock = field(default_factory=Lock, repr=False, compare=False)

    @classmethod
    def of(cls, pipeline: Pipeline) -> SharedPipeline:
        return cls(pipeline.extractor, pipeline.matcher, pipeline.device)

    def describe(self, image: Tensor) -> FeatureMap:
        with self._describing:
            return super().describe(image)

    def match(self, source: FeatureMap, target: FeatureMap) -> Correspondence:
        with self._matching:
            return super().match(source, target)


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
