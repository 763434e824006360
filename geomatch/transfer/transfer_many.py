"""One image's marks to many: each image read, matched, written and drawn side by side with others, as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from geomatch.annotations import AnnotatedImage, Target
from geomatch.batch.match_record import Record
from geomatch.features.weights import sha256_of
from geomatch.io.annotations.files import AnnotationOutput
from geomatch.io.annotations.records import annotation_record
from geomatch.io.images import read_image
from geomatch.io.names import unique_names
from geomatch.runtime.parallel_map import Finished, in_order, why
from geomatch.transfer.manifest import Manifest
from geomatch.transfer.review import Review
from geomatch.transfer.transfer import Carrier


def lay_out(images: Iterable[Path]) -> list[Target]:
    """A name of its own for each image's files, which depends on the images before it alone."""
    images = list(images)
    stems = unique_names(image.stem for image in images)
    return [Target(image, number, stem) for number, (image, stem) in enumerate(zip(images, stems, strict=True))]


@dataclass(frozen=True)
class Destination:
    """Where what is carried goes besides being told of. ledger: of an output that is a folder."""

    output: AnnotationOutput | None = None
    ledger: Manifest | None = None
    album: Review | None = None


def carry_to_all(
    targets: Sequence[Target], carrier: Carrier, destination: Destination, *, resume: bool
) -> Iterator[Finished]:
    """Carry marks to images. Gives what is told of each in the order of the list as they finish; what holds several
    images is written at the end.

    resume: leave alone the files that the ledger knows to be of the same image, marks and settings.

    An image that fails, for whatever reason, is given as such, and the others go on. Reading, describing, matching and
    writing of different images overlap; what is found does not depend on how. Raises InputError if what is written at
    the end cannot be.
    """
    used = 0
    for finished in in_order(_Job(carrier, destination, resume), targets):
        used += not finished.failed
        yield finished
    if destination.output and used:
        destination.output.close()
    if destination.album:
        destination.album.close()


@dataclass(frozen=True)
class _Job:
    """What is done with an image, from reading it to writing what is found; called from several threads at once."""

    carrier: Carrier
    to: Destination
    resume: bool

    def __call__(self, target: Target) -> Finished:
        try:
            if self.resume and (record := self._kept(target)) is not None:
                return Finished(record, kept=True)
            return Finished(self._carry(target))
        except Exception as error:
            return Finished({"image": str(target.image), "error": why(error)})

    def _carry(self, target: Target) -> Record:
        image = read_image(target.image)
        file = self.to.output.file(target) if self.to.output else None
        if self.to.ledger and file:
            self.to.ledger.check(file, target.image)
        size = (image.pixels.shape[1], image.pixels.shape[2])
        carried = AnnotatedImage(str(target.image), size, self.carrier(image.pixels))
        record = annotation_record(carried)
        if file:
            record["output"] = str(file)
        if self.to.album:
            record["review"] = str(self.to.album.add(target, image.pixels, carried))
        if self.to.ledger and file:
            self.to.ledger.enter(file, image, record)
        if self.to.output:  # last: an image whose file is there has all else, too
            self.to.output.add(target, carried)
        return record

    def _kept(self, target: Target) -> Record | None:
        if not (self.to.output and self.to.ledger):
            return None
        try:
            sha256 = sha256_of(target.image)
        except OSError:
            return None
        file = self.to.output.file(target)
        record = self.to.ledger.find(file, target.image, sha256)
        if record is None:
            return None
        record["output"] = str(file)
        if not (self.to.album and self.to.album.keep(record)):
            record.pop("review", None)
        return record
