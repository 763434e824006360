"""Match pairs of image files, from reading to writing: one pair, or many side by side.

Each image is read and extracted once. The work on different pairs overlaps, which does not change the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType

from PIL import Image

from geomatch.batch.masks import Masks
from geomatch.batch.match_record import (
    HashedFile,
    Outputs,
    Record,
    complete_record,
    match_record,
    write_match,
)
from geomatch.correspondence import Correspondence, FeatureMap
from geomatch.errors import GeomatchError, InputError
from geomatch.features.weights import sha256_of
from geomatch.io.atomic import check_new_folder
from geomatch.io.images import InputImage, read_image
from geomatch.io.inputs import stem_of
from geomatch.io.names import unique_names
from geomatch.io.remote.objects import names_below, shown, url_of
from geomatch.options import Flow, Mirror
from geomatch.pipeline import Pipeline
from geomatch.result import flow_files, picture_files
from geomatch.runtime.feature_cache import FeatureCache
from geomatch.runtime.parallel_map import Finished, error_message, map_in_order
from geomatch.runtime.threads.import_ahead import import_ahead
from geomatch.runtime.timer import Timer
from geomatch.visualize.match_pictures.overview import photograph_panel

IMAGE_BYTES = 1 << 29
"""Memory for decoded images that are kept for the pictures."""
_PICTURE_BYTES = 4
"""Of a pixel in Pillow's RGB pictures."""


@dataclass(frozen=True)
class ImagePair:
    """Two image files to match, and the folder for the results."""

    source: Path
    target: Path
    folder: Path

    @property
    def images(self) -> tuple[Path, Path]:
        return self.source, self.target


@dataclass(frozen=True)
class ExtractedImage:
    """An image file and its features."""

    file: HashedFile
    features: FeatureMap

    @property
    def nbytes(self) -> int:
        return self.features.nbytes


class ShownImage(InputImage):
    """An image file, and its panel in overviews, which is drawn once for all of its pairs."""

    @cached_property
    def panel(self) -> Image.Image:
        return photograph_panel(self.pixels)

    @property
    def nbytes(self) -> int:
        drawn = self.__dict__.get("panel")
        return super().nbytes + (_PICTURE_BYTES * drawn.width * drawn.height if drawn and self.repeatable else 0)


def extract_image(path: Path, pipeline: Pipeline) -> ExtractedImage:
    """Read an image file and extract its features. Raises GeomatchError."""
    image = read_image(path)
    return ExtractedImage((path, image.sha256), pipeline.extract(image.pixels))


def assign_folders(pairs: Iterable[tuple[Path, Path]], folder: Path) -> list[ImagePair]:
    """Give each pair a folder of its own in ``folder``: SOURCE--TARGET, with a number where that is taken.

    A pair's folder depends only on the pairs before it, so a list may grow at its end.
    """
    pairs = list(pairs)
    names = unique_names(f"{stem_of(source)}--{stem_of(target)}" for source, target in pairs)
    return [ImagePair(source, target, folder / name) for (source, target), name in zip(pairs, names, strict=True)]


def prepare_folders(pairs: Sequence[ImagePair], folder: Path, *, overwrite: bool) -> None:
    """Check ``folder``, and delete unfinished results of earlier processes there; others may write other pairs now.

    It is made with the first result, so that a list of which nothing can be matched leaves none.

    Raises InputError if ``folder`` cannot be written, or a pair's folder exists and ``overwrite`` is not given.
    """
    check_new_folder(folder, overwrite=True)
    if url_of(folder):
        there = names_below(folder)
    else:
        there = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    if not overwrite and (taken := sorted(there & {pair.folder.name for pair in pairs})):
        raise InputError(
            f"{shown(folder)}: holds {taken[0]} already; go on there with --resume, do all again with --overwrite, "
            "or give another folder with -o"
        )


class PairMatcher:
    """Matches the pairs of a list; may be called from several threads.

    pipeline: loaded after the first pair has been read, so that an unreadable file is reported at once.
    """

    def __init__(
        self,
        pairs: Sequence[ImagePair],
        build: Callable[[], Pipeline],
        outputs: Outputs,
        *,
        resume: bool = False,
        timer: Timer | None = None,
        extracted: Mapping[Path, ExtractedImage] = MappingProxyType({}),
        masks: Masks | None = None,
    ) -> None:
        """build: makes the pipeline. resume: keep results that are complete, unharmed and follow from the same images
        and settings. timer: of a list of one pair, for its record. extracted: by the same pipeline before, by path.
        masks: of all pairs."""
        self.pairs, self.outputs, self.resume = pairs, outputs, resume
        self.timer, self._build = timer or Timer(), build
        self._timed = timer is not None
        self.masks = masks or Masks()
        self._extracted = dict(extracted)
        schedule = [image for pair in pairs for image in pair.images]
        # Pixels are needed again for the pictures only, and reading them again is quicker than extracting again.
        self.images = FeatureCache(self._read, schedule, IMAGE_BYTES if outputs.pictures else 0)
        self.features = FeatureCache(self._extract, schedule)
        self._sources = {pair.source for pair in pairs}
        self._sha256_of = cache(sha256_of)

    @cached_property
    def pipeline(self) -> Pipeline:
        with self.timer.stage("loading"):
            if self.outputs.show_images:
                import_ahead("geomatch.geometry.smooth_flow")  # meanwhile the network is loaded, and extracts
            return self._build()

    def prepare(self, shared: Iterable[Path]) -> Pipeline:
        """Read the images that all pairs share, and load the pipeline. Raises GeomatchError."""
        for image in shared:
            self.images.get(image)
        return self.pipeline

    def __call__(self, pair: ImagePair) -> Finished:
        """Match a pair and write the results into its folder; any exception becomes the pair's error."""
        try:
            if self.resume and (record := self._complete(pair)):
                return Finished(record, reused=True)
            record, files = self.match(pair)
            write_match(pair.folder, record, files)
            return Finished(record)
        except Exception as error:
            return failed_pair(pair, error)
        finally:
            for image in pair.images:
                self.images.release(image)
                self.features.release(image)

    def match(self, pair: ImagePair) -> tuple[Record, Mapping[str, bytes]]:
        """Match a pair; return its record and the content of its files by name. Raises GeomatchError."""
        source, target = self.extract(pair)
        with self.timer.stage("matching"):
            found = self.pipeline.match(
                source.features, target.features, source_mask=self.masks.source, target_mask=self.masks.target
            )
        with self.timer.stage("drawing"):
            files = self._draw(pair, found)
        record = match_record(source.file, target.file, self.pipeline, found, pair.folder, files)
        about = self.masks.record() | self.outputs.record()
        return record | about | ({"seconds": self.timer.record()} if self._timed else {}), files

    def _draw(self, pair: ImagePair, found: Correspondence) -> dict[str, bytes]:
        """The content of a match's files by name."""
        if not self.outputs.show_images:
            return flow_files(found, self.outputs.formats)
        images = [self.images.get(image) for image in pair.images]
        source, target = (image.pixels for image in images)
        written = found if self.outputs.flow is Flow.raw else Correspondence.smooth(found, source)
        files = flow_files(written, self.outputs.formats)
        if names := self.outputs.pictures:
            panels = (images[0].panel, images[1].panel) if "overview.png" in names else None
            files |= picture_files(source, target, found, names, self.outputs.png_level, panels)
        return files

    def extract(self, pair: ImagePair) -> tuple[ExtractedImage, ExtractedImage]:
        """The features of a pair's images. Raises GeomatchError."""
        if "pipeline" not in self.__dict__:
            for image in pair.images:
                self.images.get(image)
        return self.features.get(pair.source), self.features.get(pair.target)

    def _read(self, path: Path) -> ShownImage:
        with self.timer.stage("reading"):
            return ShownImage(**vars(read_image(path)))

    def _extract(self, path: Path) -> ExtractedImage:
        if (known := self._extracted.pop(path, None)) is not None:
            return known
        image, pipeline = self.images.get(path), self.pipeline
        with self.timer.stage("features"):
            mirror = None if path in self._sources else Mirror.off
            return ExtractedImage((path, image.sha256), pipeline.extract(image.pixels, mirror))

    def _complete(self, pair: ImagePair) -> Record | None:
        if not all(image.is_file() for image in pair.images):  # a pipe can be read only once, and that is to match it
            return None
        try:
            source, target = ((path, self._sha256_of(path)) for path in pair.images)
        except OSError:
            return None
        return complete_record(pair.folder, source, target, self.pipeline, self.outputs, self.masks)

    def all(self) -> Iterator[Finished]:
        """Match and write the pairs side by side; they come in the order of the list as they finish."""
        return map_in_order(self, self.pairs)


@dataclass(frozen=True)
class MatchJob:
    """Match and write pairs, as the work of an engine.

    build: makes the pipeline, once a process. shared: images that all pairs need, which are read first, so that one
    that cannot be used is an error of the whole list. extracted, resume, masks: see `PairMatcher`.
    """

    build: Callable[[], Pipeline]
    outputs: Outputs
    folder: Path | None = None
    resume: bool = False
    shared: Sequence[Path] = ()
    extracted: Mapping[Path, ExtractedImage] = field(default_factory=dict)
    masks: Masks | None = None

    def start(self) -> None:
        self.build()

    def __call__(self, pairs: Sequence[ImagePair]) -> Iterator[Finished]:
        matcher = PairMatcher(
            pairs, self.build, self.outputs, resume=self.resume, extracted=self.extracted, masks=self.masks
        )
        matcher.prepare(self.shared)
        return matcher.all()

    def images(self, pair: ImagePair) -> tuple[Path, Path]:
        return pair.images

    def failure(self, pair: ImagePair, message: str) -> Finished:
        return failed_pair(pair, GeomatchError(message))


def failed_pair(pair: ImagePair, error: Exception) -> Finished:
    """The report on a pair that could not be matched."""
    record = {"source": str(pair.source), "target": str(pair.target), "error": error_message(error)}
    return Finished(record, error=error)
