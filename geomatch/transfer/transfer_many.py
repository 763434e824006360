"""Annotations transferred to many images: images are read, matched and written in parallel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from geomatch.annotations import AnnotatedImage, Target
from geomatch.io.images import read_image
from geomatch.io.inputs import read_input, stem_of
from geomatch.io.names import unique_names
from geomatch.runtime.engines.engine import Engine
from geomatch.runtime.parallel_map import Finished, error_message, map_in_order
from geomatch.transfer.outputs import TransferOutputs
from geomatch.transfer.references.transfer import ReferenceTransfer
from geomatch.transfer.target_masks import TargetMasks
from geomatch.transfer.transfer import InstanceTransfer

Transfer: TypeAlias = InstanceTransfer | ReferenceTransfer


def name_targets(images: Iterable[Path]) -> list[Target]:
    """Images with a unique name for the files of each, which depends only on the images before it."""
    images = list(images)
    stems = unique_names(stem_of(image) for image in images)
    return [Target(image, number, stem) for number, (image, stem) in enumerate(zip(images, stems, strict=True))]


@dataclass(frozen=True)
class TransferJob:
    """Transfer annotations to images and write them, as the work of an engine.

    transfer: makes what finds the annotations, once a process. resume: skip images whose file an earlier run made from
    the same image, annotations and settings. again: an image may be done twice, if a process is lost; no file was there
    before. masks: of the images, where only a part is searched.
    """

    transfer: Callable[[], Transfer]
    outputs: TransferOutputs
    folder: Path | None = None
    resume: bool = False
    again: bool = False
    masks: TargetMasks | None = None

    def start(self) -> None:
        self.transfer()

    def __call__(self, targets: Sequence[Target]) -> Iterator[Finished]:
        transfer = self.transfer()
        return map_in_order(partial(self._transfer_one, transfer), targets)

    def images(self, target: Target) -> tuple[Path]:
        return (target.image,)

    def failure(self, target: Target, message: str) -> Finished:
        return Finished({"image": str(target.image), "error": message})

    def _transfer_one(self, transfer: Transfer, target: Target) -> Finished:
        """Process one image, from reading to writing; called from several threads at once."""
        try:
            file = read_input(target.image)
            if (self.resume or self.again) and (record := self.outputs.find(target, file.sha256)) is not None:
                return Finished(record, reused=self.resume)
            image = read_image(file)
            self.outputs.check(target)
            mask = self.masks.of(target.image, image.size) if self.masks else None
            transferred = transfer.transferred(image.pixels, image.sha256, mask)
            found = AnnotatedImage(str(target.image), image.size, transferred.instances)
            return Finished(self.outputs.write(target, image, found, transferred.references))
        except Exception as error:
            return Finished({"image": str(target.image), "error": error_message(error)}, error=error)


def transfer_many(targets: Sequence[Target], job: TransferJob, engine: Engine) -> Iterator[Finished]:
    """Transfer annotations to images. Yields each image's record, in the order of the list.

    An image that fails yields a record with the error, and the work continues with the others. Images are read, matched
    and written in parallel, which does not change the result. Files that hold several images are written at the end.

    Raises InputError if a file that holds several images cannot be written.
    """
    empty = True
    for target, finished in zip(targets, engine.run(job, targets), strict=True):
        empty = empty and finished.failed
        if engine.remote:
            job.outputs.enter_review(target, finished.record)
        yield finished
    job.outputs.close(empty=empty)
