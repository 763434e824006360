"""Many pairs: each image described once, the pairs matched and written side by side, as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from geomatch.batch.match_record import (
    Record,
    Wanted,
    complete_record,
    flow_files,
    match_record,
    picture_files,
    write_match,
)
from geomatch.correspondence import FeatureMap
from geomatch.errors import InputError
from geomatch.features.weights import sha256_of
from geomatch.io.atomic import check_writable, clear_unfinished
from geomatch.io.images import read_image
from geomatch.io.names import unique_names
from geomatch.pipeline import Pipeline, SharedPipeline
from geomatch.runtime.feature_cache import FeatureCache
from geomatch.runtime.parallel_map import Finished, in_order, why

IMAGE_BYTES = 1 << 29


@dataclass(frozen=True)
class Pair:
    """Two images to match, and the folder for what is found."""

    source: Path
    target: Path
    folder: Path


def lay_out(pairs: Iterable[tuple[Path, Path]], folder: Path) -> list[Pair]:
    """A folder of its own in ``folder`` for each pair: SOURCE--TARGET, with a number where that is taken by one before.

    So a pair's place depends on the pairs before it alone, and a list may grow at its end.
    """
    pairs = list(pairs)
    names = unique_names(f"{source.stem}--{target.stem}" for source, target in pairs)
    return [Pair(source, target, folder / name) for (source, target), name in zip(pairs, names, strict=True)]


def prepare_folders(pairs: Sequence[Pair], folder: Path, *, overwrite: bool) -> None:
    """Make ``folder``, and clear away what a batch that was killed left half-written there.

    Only the pairs' own places are looked at, since others may be at work beside them. Raises InputError if the folder
    cannot be written, or a pair's place is taken and ``overwrite`` is not given.
    """
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        advice = "; make the folder above it first" if isinstance(error, FileNotFoundError) else ""
        raise InputError(f"{folder}: cannot be made ({error.strerror}){advice}") from error
    check_writable(folder / "pair")
    names = {pair.folder.name for pair in pairs}
    if not overwrite and (taken := sorted({entry.name for entry in folder.iterdir()} & names)):
        raise InputError(
            f"{folder}: holds {taken[0]} already; go on there with --resume, do all anew with --overwrite, "
            "or give another folder with -o"
        )
    clear_unfinished(folder, names.__contains__)


def match_pairs(pairs: Sequence[Pair], pipeline: Pipeline, wanted: Wanted, *, resume: bool) -> Iterator[Finished]:
    """Match pairs and write what is found, each into its folder. Gives them in the order of the list as they finish.

    resume: leave alone what is complete and unharmed and follows from the same images and settings.

    A pair that fails, for whatever reason, is given as such, and the others go on. Reading, describing, matching and
    writing of different pairs overlap; what is found does not depend on how.
    """
    return in_order(_Job(pairs, pipeline, wanted, resume), pairs)


@dataclass(frozen=True)
class _Description:
    """The features of an image file, and its SHA-256."""

    sha256: str
    features: FeatureMap

    @property
    def nbytes(self) -> int:
        return self.features.nbytes


class _Job:
    """What is done with a pair, from reading it to writing it; called from several threads at once."""

    def __init__(self, pairs: Sequence[Pair], pipeline: Pipeline, wanted: Wanted, resume: bool) -> None:
        self.pipeline, self.wanted, self.resume = SharedPipeline.of(pipeline), wanted, resume
        schedule = [image for pair in pairs for image in (pair.source, pair.target)]
        # Pixels are needed again for the pictures only, and are sooner read anew than described anew.
        self.images = FeatureCache(read_image, schedule, IMAGE_BYTES if wanted.pictures else 0)
        self.descriptions = FeatureCache(self._describe, schedule)
        self.sha256_of = cache(sha256_of)

    def __call__(self, pair: Pair) -> Finished:
        try:
            if self.resume and (record := self._complete(pair)):
                return Finished(record, kept=True)
            return Finished(self._match(pair))
        except Exception as error:
            return Finished({"source": str(pair.source), "target": str(pair.target), "error": why(error)})
        finally:
            for image in (pair.source, pair.target):
                self.images.release(image)
                self.descriptions.release(image)

    def _match(self, pair: Pair) -> Record:
        source, target = self.descriptions.get(pair.source), self.descriptions.get(pair.target)
        found = self.pipeline.match(source.features, target.features)
        files = flow_files(found, self.wanted.formats)
        if self.wanted.pictures:
            files |= picture_files(self.images.get(pair.source).pixels, self.images.get(pair.target).pixels, found)
        inputs = (pair.source, source.sha256), (pair.target, target.sha256)
        record = match_record(*inputs, self.pipeline, found, self.wanted, pair.folder, files)
        write_match(pair.folder, record, files)
        return record

    def _describe(self, path: Path) -> _Description:
        image = self.images.get(path)
        return _Description(image.sha256, self.pipeline.describe(image.pixels))

    def _complete(self, pair: Pair) -> Record | None:
        try:
            source, target = ((path, self.sha256_of(path)) for path in (pair.source, pair.target))
        except OSError:
            return None
        return complete_record(pair.folder, source, target, self.pipeline, self.wanted)
