"""The image whose annotations are transferred, and the annotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from geomatch.annotations import AnnotatedImage, Annotations
from geomatch.io.annotations.files import read_annotations
from geomatch.io.annotations.label_image import DEFAULT_RULES, LabelRules
from geomatch.io.images import InputImage, exif_orientation, read_image
from geomatch.io.inputs import read_input
from geomatch.options import AnnotationKind


@dataclass(frozen=True)
class Reference:
    """An image and its annotations of one kind. marks_sha256: of the file that they come from."""

    image: InputImage
    marks_sha256: str
    kind: AnnotationKind
    annotations: Annotations

    @classmethod
    def read(
        cls,
        image: Path,
        marks: Path,
        kind: AnnotationKind,
        *,
        strict: bool = False,
        labels: LabelRules = DEFAULT_RULES,
    ) -> Reference:
        """Read both files, see `read_annotations`. Raises InputError, naming the one at fault."""
        photograph, file = read_input(image), read_input(marks)
        pixels, orientation = read_image(photograph), exif_orientation(photograph)
        annotations = read_annotations(
            file, kind, image, pixels.size, orientation=orientation, strict=strict, labels=labels
        )
        return cls(pixels, file.sha256, kind, annotations)

    def record(self) -> Mapping[str, Any]:
        """Everything in it that affects the result, ready for JSON."""
        return {"reference_sha256": self.image.sha256, "marks_sha256": self.marks_sha256, "marks": self.kind.value}

    def drawn(self) -> tuple[Tensor, AnnotatedImage]:
        """Its pixels and what is marked on it, for `geomatch.transfer.review.Review`."""
        return self.image.pixels, AnnotatedImage(str(self.image.path), self.image.size, self.annotations.instances)
