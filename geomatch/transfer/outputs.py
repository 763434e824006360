"""Where transferred annotations go: files in one of the formats, and pictures to review."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from geomatch.annotations import AnnotatedImage, Target
from geomatch.batch.match_record import Record
from geomatch.io.annotations.files import AnnotationOutput
from geomatch.io.annotations.records import annotation_record
from geomatch.io.images import InputImage
from geomatch.transfer.manifest import Manifest
from geomatch.transfer.review import Review


@dataclass(frozen=True)
class TransferOutputs:
    """What is written besides the lines on stdout. manifest: of files in a folder."""

    files: AnnotationOutput | None = None
    manifest: Manifest | None = None
    review: Review | None = None

    def write(
        self, target: Target, image: InputImage, found: AnnotatedImage, references: Sequence[AnnotatedImage] = ()
    ) -> Record:
        """Write what was found on an image, from these of many references. Returns its record, ready for JSON.

        Raises InputError.
        """
        record = annotation_record(found)
        if references:
            record["references"] = [reference.name for reference in references]
        file = self.files.file(target) if self.files else None
        if file:
            record["output"] = str(file)
        if self.review:
            record["review"] = str(self.review.add(target, image.pixels, found, *references[:1]))
        if self.manifest and file:
            self.manifest.enter(file, image, record)
        if self.files:  # last: an image whose file exists has everything else, too
            self.files.add(target, found)
        return record

    def check(self, target: Target) -> None:
        """Raise InputError if the image's file must not be written."""
        if self.manifest and self.files:
            self.manifest.check(self.files.file(target), target.image)

    def find(self, target: Target, sha256: str) -> Record | None:
        """The record of an image (its file's SHA-256) whose file an earlier run wrote; None if there is none."""
        if not (self.files and self.manifest):
            return None
        file = self.files.file(target)
        record = self.manifest.find(file, target.image, sha256)
        if record is None:
            return None
        record["output"] = str(file)
        if not (self.review and self.review.keep(target, record)):
            record.pop("review", None)
        return record

    def enter_review(self, target: Target, record: Record) -> None:
        """Show on the page of the review what another process has found, written and drawn."""
        if self.review and "review" in record:
            self.review.keep(target, record)

    def close(self, *, empty: bool) -> None:
        """Write the files that hold several images. empty: no image could be used. Raises InputError."""
        if self.files and not empty:
            self.files.close()
        if self.review:
            self.review.close()
