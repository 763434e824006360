"""One image's annotations transferred to many: images are read, matched and written in parallel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from geomatch.annotations import AnnotatedImage, Target
from geomatch.batch.match_record import Record
from geomatch.features.weights import sha256_of
from geomatch.io.images import read_image
from geomatch.io.names import unique_names
from geomatch.runtime.parallel_map import Finished, error_message, map_in_order
from geomatch.transfer.outputs import TransferOutputs
from geomatch.transfer.transfer import InstanceTransfer


def name_targets(images: Iterable[Path]) -> list[Target]:
    """Images with a unique name for the files of each, which depends only on the images before it."""
    images = list(images)
    stems = unique_names(image.stem for image in images)
    return [Target(image, number, stem) for number, (image, stem) in enumerate(zip(images, stems, strict=True))]


def transfer_many(
    targets: Sequence[Target], transfer: InstanceTransfer, outputs: TransferOutputs, *, resume: bool
) -> Iterator[Finished]:
    """Transfer annotations to images. Yields each image's record, in the order of the list.

    An image that fails, for whatever reason, yields a record that says so, and the others go on. Reading, extracting,
    matching and writing of different images overlap, without effect on the result. Files that hold several images are
    written at the end.

    resume: leave files alone that the manifest knows to be of the same image, annotations and settings.
    Raises InputError if what is written at the end cannot be.
    """
    empty = True
    for finished in map_in_order(_TransferJob(transfer, outputs, resume), targets):
        empty = empty and finished.failed
        yield finished
    outputs.close(empty=empty)


@dataclass(frozen=True)
class _TransferJob:
    """What is done with one image, from reading to writing; called from several threads at once."""

    transfer: InstanceTransfer
    outputs: TransferOutputs
    resume: bool

    def __call__(self, target: Target) -> Finished:
        try:
            if self.resume and (record := self._find(target)) is not None:
                return Finished(record, reused=True)
            image = read_image(target.image)
            self.outputs.check(target)
            found = AnnotatedImage(str(target.image), image.size, self.transfer(image.pixels))
            return Finished(self.outputs.write(target, image, found))
        except Exception as error:
            return Finished({"image": str(target.image), "error": error_message(error)})

    def _find(self, target: Target) -> Record | None:
        with suppress(OSError):  # which reading the image will name
            return self.outputs.find(target, sha256_of(target.image))
        return None
