"""Two images to features, to target points, to a correspondence for every pixel: the public `Pipeline`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geomatch.arguments import (
    Image,
    ImageMask,
    choice_of,
    described,
    mask_of,
    path_of,
    pixels_of,
    refuse_unknown_keywords,
    whole_number_of,
)
from geomatch.correspondence import Correspondence, FeatureMap, MirrorChoice
from geomatch.errors import InputError, OutOfMemoryError
from geomatch.features.base import FeatureExtractor
from geomatch.features.caches.disk import CachedFeatures
from geomatch.features.load import load_features
from geomatch.features.weights import features_of, read_weights_file
from geomatch.features.zoom import ZoomedFeatures, zoom_in
from geomatch.geometry.view import part_of
from geomatch.io.inputs import Input, InputFile
from geomatch.matching.base import MatchContext, Matcher, TargetPoints, expected_bytes
from geomatch.matching.densify import Densification, densify, densify_both_ways
from geomatch.matching.load import load_matcher
from geomatch.matching.mirror import MirrorModel, choose_mirror, flip_source, flip_target
from geomatch.matching.overview import surrounded
from geomatch.options import (
    DEFAULT_MAX_MEMORY,
    PRESETS,
    Device,
    Mirror,
    Precision,
    Preset,
    PresetSettings,
    Refine,
    Zoom,
)
from geomatch.registry import MATCHERS
from geomatch.result import Match
from geomatch.runtime.device import find_device
from geomatch.runtime.threads.gathered import Gathered
from geomatch.runtime.threads.side_by_side import SideBySide, torch_threads
from geomatch.runtime.torch_state import standard_torch_state

BATCH = 8
"""Images that a GPU extracts together, at most; as many threads work on pairs."""


class Pipeline:
    """Extracts the features of images and matches them.

    The network is loaded once. An image that is matched several times needs extracting only once:

    >>> import numpy as np
    >>> pipeline = Pipeline(preset="fast", device="cpu")
    >>> first, second, third = np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), np.uint8)
    >>> features = pipeline.extract(first)
    >>> [tuple(pipeline.match(features, target).flow.shape) for target in (second, third)]
    [(2, 64, 96), (2, 64, 96)]

    Several threads may use a pipeline. They take turns in extracting, which uses all cores. On a CPU they match side by
    side, as far as cores and ``max_memory`` bytes allow. Torch has as many threads as when the pipeline was made; what
    else the caller has set in it (autocast, default dtype and device, gradients, inference mode) has no influence.

    Attributes:
        extractor: extracts the features.
        matcher, matcher_name: finds target points, and its name.
        preset: the name of the settings, or "custom".
        cells: least number of cells, approximately, that are matched along an image's longer side. Coarser features
            are interpolated to a whole multiple of their grid.
        max_bytes: bound on the memory that matching takes, features and result excluded.
        densification: how target points become flow.
        zoom: whether images are looked at again where they show an object, and the pair's surroundings are matched
            coarsely.
        mirror, mirror_model: whether sources are flipped left to right, and the rule by which "auto" decides.
        device: where features and matches are computed.
    """

    @refuse_unknown_keywords
    def __init__(
        self,
        *,
        features: str | FeatureExtractor | None = None,
        matcher: str | Matcher | None = None,
        parameters: Mapping[str, object] | None = None,
        preset: str | PresetSettings = "default",
        weights: str | os.PathLike[str] | None = None,
        device: str | torch.device = "auto",
        max_memory: int = DEFAULT_MAX_MEMORY,
        min_confidence: float = 0.0,
        refine: str | None = None,
        cache: str | os.PathLike[str] | None = None,
        precision: str = "auto",
        batch: int | None = None,
        zoom: str | None = None,
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
            refine: "on" searches matches again on a finer map, where both images show one object; or "off". By default
                the preset's.
            cache: a folder that stores features in half precision for later runs.
            precision: arithmetic of the networks, "float32", "bfloat16", or "auto": bfloat16 where the hardware
                multiplies it natively. An extractor that is given keeps its own.
            batch: how many images, that several threads extract at the same time, networks read in one pass. By
                default 8 on cuda, fewer once memory runs out, and 1 elsewhere.
            zoom: "on" looks at each image again where it shows an object, and "off" does not. By default the preset's
                for its own features, else off. Matchers of boxes that are searched in the image have none.

        Raises:
            GeomatchError: if a name or a value is unknown, or if the weights or the folder cannot be used.
        """
        settings = preset if isinstance(preset, PresetSettings) else PRESETS[choice_of(Preset, "preset", preset)]
        self.preset = "custom" if isinstance(preset, PresetSettings) else str(preset)
        self.device = find_device(device if isinstance(device, torch.device) else choice_of(Device, "device", device))
        self.cells, self.max_bytes = settings.cells, whole_number_of("max_memory", max_memory)
        self.densification = Densification(
            min_confidence=min_confidence,
            refine=settings.refine if refine is None else choice_of(Refine, "refine", refine),
        )
        self.mirror, self.mirror_model = Mirror.off, MirrorModel()
        with standard_torch_state(), torch.random.fork_rng(devices=[]):  # layers draw weights before theirs are read
            self._set_matcher(matcher or settings.matcher, parameters)
            extractor = self._load_features(features, settings, weights, choice_of(Precision, "precision", precision))
        own = features is None and weights is None
        self.zoom = choice_of(Zoom, "zoom", zoom or (settings.zoom if own else Zoom.off))
        if self.matcher.reads_image:
            self.zoom = Zoom.off
        self.extractor = self._assembled(extractor, None if cache is None else path_of("cache", cache))
        most = whole_number_of("batch", batch) if batch is not None else BATCH if self.device.type == "cuda" else 1
        self._threads = torch.get_num_threads()
        self._extraction = Gathered(partial(_extract_together, self._threads), most)
        self._matching = SideBySide(self._threads, self._threads if self.device.type == "cpu" else 1, self.max_bytes)

    @property
    def batch(self) -> int:
        """How many images networks read in one pass, at most."""
        return self._extraction.most

    def __repr__(self) -> str:
        names = (self.extractor.name, self.matcher_name, self.preset, str(self.device))
        return "Pipeline(features={!r}, matcher={!r}, preset={!r}, device={!r})".format(*names)

    def with_matcher(self, matcher: str | Matcher, parameters: Mapping[str, object] | None = None) -> Pipeline:
        """A pipeline with the same features and another matcher; the network is shared.

        If the matcher reads the image itself, the pipeline does not zoom in.

        Args:
            matcher: a name, or a matcher.
            parameters: values of its parameters by name; the others keep their defaults.

        Raises:
            GeomatchError: if the name, a parameter or its value is unknown.
        """
        other = copy(self)
        other._set_matcher(matcher, parameters)
        if other.matcher.reads_image and isinstance(self.extractor, ZoomedFeatures):
            other.zoom, other.extractor = Zoom.off, self.extractor.detail
        return other

    def with_mirror(self, mirror: str) -> Pipeline:
        """A pipeline that may flip the source of a pair left to right for matching; the network is shared.

        Results are in the frame of the images as given.

        Args:
            mirror: "on" flips every source, "auto" decides it for each pair, "off" flips none.

        Raises:
            GeomatchError: if the value is unknown.
        """
        other = copy(self)
        other.mirror = choice_of(Mirror, "mirror", mirror)
        return other

    def for_class(self, name: str) -> Pipeline:
        """The pipeline for images of a class; another one only for features that are ``by_class``.

        Raises:
            GeomatchError: if the features do not know the class.
        """
        if not self.extractor.by_class:
            return self
        other = copy(self)
        other.extractor = self.extractor.for_class(name)
        return other

    @standard_torch_state()
    def extract(self, image: Image, mirror: str | None = None) -> FeatureMap:
        """Extract an image's features; pass them to `match` in place of the image.

        They fit this pipeline, and others with the same features, preset, zoom, device and kind of matcher.

        Args:
            image: see `Image`.
            mirror: "off" leaves out the features of the flipped image, which only the source of a pair needs; by
                default as the pipeline's.

        Returns:
            Features on the pipeline's device, with what the matcher reads of the image itself.

        Raises:
            GeomatchError: if the image cannot be matched, naming the file, or the array's shape and dtype; and if
                memory runs out.
        """
        pixels = pixels_of(image)
        mirrored = choice_of(Mirror, "mirror", mirror or self.mirror) is not Mirror.off
        features = replace(self._extraction((self.extractor, pixels)), origin=self._origin)
        if self.densification.refine is Refine.off:
            features = replace(features, fine=None)
        if mirrored:
            features = replace(features, mirrored=self._extraction((self.extractor, pixels.flip(-1))))
        with self._extraction.lock, torch_threads(self._threads, self._threads), explain_out_of_memory():
            return self.prepare(features, pixels)

    @standard_torch_state()
    def prepare(self, features: FeatureMap, image: Tensor) -> FeatureMap:
        """Add what the matcher reads of the image (3, H, W) uint8 itself to features of another matcher's pipeline."""
        prepared = self.matcher.prepare(features, image)
        if features.mirrored is None:
            return prepared
        return replace(prepared, mirrored=self.matcher.prepare(features.mirrored, image.flip(-1)))

    @standard_torch_state()
    def match(
        self,
        source: Image | FeatureMap,
        target: Image | FeatureMap,
        *,
        source_mask: ImageMask | None = None,
        target_mask: ImageMask | None = None,
    ) -> Match:
        """Find the corresponding position in the target for every pixel of the source.

        Args:
            source, target: images, or the features that `extract` returned for them.
            source_mask, target_mask: what of the images is matched, see `ImageMask`; by default all of them. Pixels of
                the source outside its mask are not valid and have no confidence; what lies outside the target's mask is
                no candidate.

        Returns:
            Flow (x, y) in pixels of the images as given, with pixel centres at integers; confidence and validity. The
            tensors are on the pipeline's device.

        Raises:
            GeomatchError: as `extract` does; if features are not this pipeline's or lack what the matcher reads; for a
                mask of another size, or one that is empty; and if memory runs out.
        """
        with self._matched(source, target, source_mask, target_mask) as pair:
            found = pair.densify(self.densification)
            return Match.of(flip_source(found, pair.choice), *pair.images)

    @standard_torch_state()
    def match_both_ways(
        self,
        source: Image | FeatureMap,
        target: Image | FeatureMap,
        *,
        source_mask: ImageMask | None = None,
        target_mask: ImageMask | None = None,
    ) -> tuple[Match, Match]:
        """`match` of the source to the target and of the target to the source, in little more time than one of them."""
        with self._matched(source, target, source_mask, target_mask) as pair:
            found, back = pair.densify_both_ways(self.densification)
            found, back = flip_source(found, pair.choice), flip_target(back, pair.choice)
            return Match.of(found, *pair.images), Match.of(back, *reversed(pair.images))

    @contextmanager
    def _matched(
        self,
        source: Image | FeatureMap,
        target: Image | FeatureMap,
        source_mask: ImageMask | None = None,
        target_mask: ImageMask | None = None,
    ) -> Iterator[_MatchedPair]:
        """A pair and its target points both ways, while this thread may match."""
        with explain_out_of_memory():
            (first, source_pixels), (second, target_pixels) = self._read(source), self._read(target, Mirror.off)
            if len(first.descriptors) != len(second.descriptors):
                raise InputError(
                    f"features of {len(first.descriptors)} and {len(second.descriptors)} channels cannot be matched: "
                    "extract both with this pipeline"
                )
            devices = first.descriptors.device, second.descriptors.device
            if devices[0] != devices[1]:
                raise InputError(
                    f"features on the devices {devices[0]} and {devices[1]} cannot be matched: extract both with this "
                    "pipeline"
                )
            first, second = self.upsample(
                *_in_view(_with_mask(first, "source_mask", source_mask), _with_mask(second, "target_mask", target_mask))
            )
            with self._matching(expected_bytes(first, second)):
                choice = choose_mirror(first, second, self.mirror, self.mirror_model, self.max_bytes)
                if choice and choice.mirrored and first.mirrored:
                    first = first.mirrored
                found = _Found.by(self.matcher, first, second, self.max_bytes)
                yield _MatchedPair(found, self.matcher, (source_pixels, target_pixels), choice)

    def _read(self, image: Image | FeatureMap, mirror: Mirror | None = None) -> tuple[FeatureMap, Tensor | None]:
        """An image's features, and its pixels (3, H, W) uint8, which are not known if the features were given."""
        if isinstance(image, FeatureMap):
            self._check_origin(image)
            return image, None
        pixels = pixels_of(image)
        return self.extract(pixels, mirror), pixels

    def _check_origin(self, features: FeatureMap) -> None:
        """Raise InputError if a pipeline with other features extracted these."""
        if features.origin and features.origin != self._origin:
            raise InputError(
                f"these features are {features.origin}, and this pipeline's are {self._origin}: extract them with it"
            )

    @property
    def _origin(self) -> str:
        """What decides an image's features, in words."""
        extractor = self.extractor
        weights = f", weights {extractor.weights_sha256[:8]}" if extractor.weights_sha256 else ""
        closer = "" if self.zoom is Zoom.off else ", zoom on"
        return f"{extractor.name} at {extractor.working_size} pixels{weights}{closer}"

    def _load_features(
        self,
        features: str | FeatureExtractor | None,
        settings: PresetSettings,
        weights: str | os.PathLike[str] | None,
        precision: Precision,
    ) -> FeatureExtractor:
        if isinstance(features, FeatureExtractor):
            return features
        file: Input | None = (
            weights if weights is None or isinstance(weights, InputFile) else path_of("weights", weights)
        )
        if file and not features:
            file = read_weights_file(file)
            features = features_of(file)
        name = features or settings.features
        if not isinstance(name, str):
            raise InputError(f"features is {described(name)}: give a name or a FeatureExtractor")
        extractor = load_features(
            name, working_size=settings.working_size, device=self.device, weights=file, precision=precision
        )
        if self.densification.refine is Refine.off:
            extractor.leave_out_fine_maps()
        return extractor

    def _assembled(self, extractor: FeatureExtractor, cache: Path | None) -> FeatureExtractor:
        """The extractor, zooming in or not, whose features are kept in the folder ``cache``, if there is one."""

        def kept(each: FeatureExtractor) -> FeatureExtractor:
            return each if cache is None else CachedFeatures(each, cache, self.device)

        return kept(extractor) if self.zoom is Zoom.off else zoom_in(extractor, self.device, kept)

    def _set_matcher(self, matcher: str | Matcher, parameters: Mapping[str, object] | None) -> None:
        if not isinstance(parameters, Mapping | None):
            raise InputError(f"parameters is {described(parameters)}: give a dictionary of values by name")
        if isinstance(matcher, Matcher):
            self.matcher, self.matcher_name = matcher, type(matcher).__name__
        elif not isinstance(matcher, str):
            raise InputError(f"matcher is {described(matcher)}: give a name or a Matcher")
        else:
            self.matcher, self.matcher_name = load_matcher(matcher, parameters), MATCHERS.canonical(matcher)

    @standard_torch_state()
    def upsample(self, source: FeatureMap, target: FeatureMap) -> tuple[FeatureMap, FeatureMap]:
        """The features on the grids that are matched, with about ``cells`` or more cells along the longer side."""
        factor = max(1, round(self.cells / max(source.grid.shape)))
        return source.upsampled(factor), target.upsampled(factor)

    def settings(self) -> dict[str, Any]:
        """Every setting, resolved, ready for JSON. The keys are part of the format of match.json."""
        return {
            "working_size": self.extractor.working_size,
            "precision": self.extractor.precision,
            "arithmetic": self.extractor.arithmetic,
            "name": self.matcher_name,
            "method": asdict(self.matcher),  # type: ignore[call-overload]
            "cells": self.cells,
            **({} if self.zoom is Zoom.off else {"zoom": self.zoom}),
            "max_bytes": self.max_bytes,
            "densification": {
                "hearing": asdict(self.densification.cues),
                "posterior": asdict(self.extractor.calibration),
                "cycle_tolerance": self.densification.cycle_tolerance,
                "min_confidence": self.densification.min_confidence,
                "refine": self.densification.refine,
            },
            "device": self.device.type,
            **({} if self.mirror is Mirror.off else {"mirror": self.mirror, "mirror_model": asdict(self.mirror_model)}),
        }


@dataclass(frozen=True)
class _Found:
    """A pair of features, and its target points both ways."""

    context: MatchContext
    forward: TargetPoints
    backward: TargetPoints

    @classmethod
    def by(cls, matcher: Matcher, source: FeatureMap, target: FeatureMap, max_bytes: int) -> _Found:
        context = MatchContext(source, target, max_bytes)
        return cls(context, *matcher(context))

    def densify(self, how: Densification) -> Correspondence:
        return densify(self.context, self.forward, self.backward, how)

    def densify_both_ways(self, how: Densification) -> tuple[Correspondence, Correspondence]:
        return densify_both_ways(self.context, self.forward, self.backward, how)


@dataclass(frozen=True)
class _MatchedPair:
    """What a matcher found in the views of two images; the images (3, H, W) uint8 where they were given; and whether
    the source is flipped in what was found."""

    found: _Found
    matcher: Matcher
    images: tuple[Tensor | None, Tensor | None]
    choice: MirrorChoice | None

    def densify(self, how: Densification) -> Correspondence:
        found, view = self.found.densify(how), self.found.context.source.view
        around = self._around() if view else None
        return surrounded(found, around.densify(how), view) if around else found

    def densify_both_ways(self, how: Densification) -> tuple[Correspondence, Correspondence]:
        there, back = self.found.densify_both_ways(how)
        views = self.found.context.source.view, self.found.context.target.view
        if around := self._around() if any(views) else None:
            outer, outer_back = around.densify_both_ways(how)
            there, back = surrounded(there, outer, views[0]), surrounded(back, outer_back, views[1])
        return there, back

    def _around(self) -> _Found | None:
        """What the matcher finds in the overviews of both images, if they have them."""
        context = self.found.context
        source, target = context.source.overview, context.target.overview
        return _Found.by(self.matcher, source, target, context.max_bytes) if source and target else None


def _in_view(source: FeatureMap, target: FeatureMap) -> tuple[FeatureMap, FeatureMap]:
    """The features, or both overviews if what is matched of one of the images lies mostly outside its view."""
    seen = [each for each in (source, source.mirrored, target) if each]  # a flipped image may have another view
    if not any(map(_is_outside_view, seen)) or not (source.overview and target.overview):
        return source, target
    return replace(source.overview, mirrored=source.mirrored and source.mirrored.overview), target.overview


def _is_outside_view(features: FeatureMap) -> bool:
    if features.view is None or features.mask is None:
        return False
    return 2 * int(part_of(features.mask, features.view).sum()) < int(features.mask.sum())


def _with_mask(features: FeatureMap, name: str, mask: ImageMask | None) -> FeatureMap:
    """Features of which only what a mask covers is matched; without one, as they are. Raises InputError."""
    return features if mask is None else features.masked(mask_of(name, mask, features.image_size))


@refuse_unknown_keywords
def match(
    source: Image | FeatureMap,
    target: Image | FeatureMap,
    *,
    features: str | FeatureExtractor | None = None,
    matcher: str | Matcher | None = None,
    parameters: Mapping[str, object] | None = None,
    preset: str | PresetSettings = "default",
    weights: str | os.PathLike[str] | None = None,
    device: str | torch.device = "auto",
    max_memory: int = DEFAULT_MAX_MEMORY,
    min_confidence: float = 0.0,
    refine: str | None = None,
    cache: str | os.PathLike[str] | None = None,
    precision: str = "auto",
    zoom: str | None = None,
    source_mask: ImageMask | None = None,
    target_mask: ImageMask | None = None,
) -> Match:
    """Match two images with a `Pipeline` that is made for this one call.

    Loading the weights takes longer than matching; for more than one pair, make a `Pipeline`.

    >>> import numpy as np
    >>> found = match(np.zeros((32, 48), np.uint8), np.zeros((32, 40), np.uint8), preset="fast", device="cpu")
    >>> found.source_size, found.target_size
    ((32, 48), (32, 40))

    Args:
        source, target: images: paths, Pillow images, arrays (H, W, 3) or (H, W), or tensors (3, H, W) of uint8.
        features: a name, such as "introspection" or "anchornet:cat"; by default the preset's.
        matcher: a name, such as "nn" or "hough"; by default the preset's.
        parameters: values of the matcher's parameters by name.
        preset: "fast", "default" or "precise".
        weights: a safetensors file instead of the shipped one.
        device: "auto", "cpu", "cuda" or "mps", or a torch device.
        max_memory: bytes that matching may take, features and result excluded.
        min_confidence: the confidence, in [0, 1], that a match needs to be valid.
        cache: a folder that stores features for later runs.
        precision: arithmetic of the networks: "float32", "bfloat16" or "auto".
        zoom: "on" looks again, closer, at the object of each image; see `Pipeline`.
        source_mask, target_mask: what of the images is matched; see `Pipeline.match`.

    Returns:
        For every pixel of the source the corresponding position in the target; see `Correspondence` and `Match`.

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
        refine=refine,
        cache=cache,
        precision=precision,
        zoom=zoom,
    )
    return pipeline.match(source, target, source_mask=source_mask, target_mask=target_mask)


def _extract_together(threads: int, images: Sequence[tuple[FeatureExtractor, Tensor]]) -> list[FeatureMap]:
    """The features of images (3, H, W) uint8, each by its extractor, on so many threads of torch.

    The last digits of what networks compute depend on how many there are.
    """
    found: dict[int, FeatureMap] = {}
    with explain_out_of_memory(), torch_threads(threads, threads):
        for extractor in dict.fromkeys(extractor for extractor, _ in images):
            places = [place for place, (each, _) in enumerate(images) if each is extractor]
            found.update(zip(places, extractor.extract_batch([images[place][1] for place in places]), strict=True))
    return [found[place] for place in range(len(images))]


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
