"""Extract image files to files of their features, as the work of an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from geomatch import __version__
from geomatch.batch.match_record import Record
from geomatch.errors import GeomatchError
from geomatch.io.atomic import write_atomically
from geomatch.io.features import FEATURE_ENCODERS, read_about
from geomatch.io.images import read_image
from geomatch.io.remote.objects import read_object, shown, url_of
from geomatch.options import FeatureFormat
from geomatch.pipeline import Pipeline
from geomatch.runtime.parallel_map import Finished, map_in_order

ImageAndFile = tuple[Path, Path]
"""An image, and the file for its features."""


@dataclass(frozen=True)
class ExtractionJob:
    """Extract images, and write each one's features into its file.

    build: makes the pipeline, once a process. precision: that descriptors are written in. resume: keep files that are
    whole, and of the same image and settings.
    """

    build: Callable[[], Pipeline]
    format: FeatureFormat
    precision: str
    folder: Path | None = None
    resume: bool = False

    def start(self) -> None:
        self.build()

    def __call__(self, items: Sequence[ImageAndFile]) -> Iterator[Finished]:
        pipeline = self.build()

        def extract(item: ImageAndFile) -> Finished:
            try:
                return self._extract(*item, pipeline)
            except GeomatchError as error:
                return Finished({"image": str(item[0]), "error": str(error)}, error=error)

        yield from map_in_order(extract, items)

    def images(self, item: ImageAndFile) -> tuple[Path]:
        return item[:1]

    def failure(self, item: ImageAndFile, message: str) -> Finished:
        return Finished({"image": str(item[0]), "error": message})

    def _extract(self, path: Path, file: Path, pipeline: Pipeline) -> Finished:
        image = read_image(path)
        about: Record = {
            "sha256": image.sha256,
            "features": pipeline.extractor.name,
            "weights_sha256": pipeline.extractor.weights_sha256,
            "working_size": pipeline.extractor.working_size,
            "arithmetic": pipeline.extractor.arithmetic,
            "version": __version__,
        }
        record = {"image": str(path), **about}
        if self.resume:
            with suppress(OSError, ValueError):
                content = read_object(file) or b"" if url_of(file) else file.read_bytes()
                there = read_about(content, self.format)
                shape = there.pop("shape")
                if there == about | {"precision": self.precision}:
                    return Finished(record | {"shape": shape, "output": shown(file)}, reused=True)
        features = pipeline.extract(image.pixels)
        write_atomically(file, FEATURE_ENCODERS[self.format](features, about, precision=self.precision))
        return Finished(record | {"shape": list(features.descriptors.shape), "output": shown(file)})
