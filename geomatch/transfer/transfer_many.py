"""Annotations transferred to many images: images are read, matched and written in parallel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

from geomatch.annotations import AnnotatedImage, Target
from geomatch.io.images import read_image
from geomatch.io.inputs import read_input
from geomatch.io.names import unique_names
from geomatch.runtime.parallel_map import Finished, error_message, map_in_order
from geomatch.transfer.outputs import TransferOutputs
from geomatch.transfer.references.transfer import ReferenceTransfer
from geomatch.transfer.transfer import InstanceTransfer

Transfer: TypeAlias = InstanceTransfer | ReferenceTransfer


def name_targets(images: Iterable[Path]) -> list[Target]:
    """Images with a unique name for the files of each, which depends only on the images before it."""
    images = list(images)
    stems = unique_names(image.stem for image in images)
    return [Target(image, number, stem) for number, (image, stem) in enumerate(zip(images, stems, strict=True))]


def transfer_many(
    targets: Sequence[Target], transfer: Transfer, outputs: TransferOutputs, *, resume: bool
) -> Iterator[Finished]:
    """Transfer annotations to images. Yields each image's record, in the order of the list.

    An image that fails yields a record with the error, and the work continues with the others. Images are read, matched
    and written in parallel, which does not change the result. Files that hold several images are written at the end.

    resume: skip images whose file an earlier run made from the same image, annotations and settings.
    Raises InputError if a file that holds several images cannot be written.
    """
    empty = True
    transfer_one = partial(_transfer_one, transfer, outputs, resume=resume)
    for finished in map_in_order(transfer_one, targets):
        empty = empty and finished.failed
        yield finished
    outputs.close(empty=empty)


def _transfer_one(transfer: Transfer, outputs: TransferOutputs, target: Target, *, resume: bool) -> Finished:
    """Process one image, from reading to writing; called from several threads at once."""
    try:
        file = read_input(target.image)
        if resume and (record := outputs.find(target, file.sha256)) is not None:
            return Finished(record, reused=True)
        image = read_image(file)
        outputs.check(target)
        transferred = transfer.transferred(image.pixels)
        found = AnnotatedImage(str(target.image), image.size, transferred.instances)
        return Finished(outputs.write(target, image, found, transferred.references))
    except Exception as error:
        return Finished({"image": str(target.image), "error": error_message(error)})
