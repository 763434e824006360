"""The annotations of one image, or of many, transferred to others, from Python."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from geomatch.annotations import AnnotatedImage
from geomatch.arguments import (
    Image,
    ImageMask,
    choice_of,
    mask_of,
    path_of,
    pixels_of,
    refuse_unknown_keywords,
    whole_number_of,
)
from geomatch.errors import InputError
from geomatch.io.annotations.files import open_output
from geomatch.options import DEFAULT_REFERENCES, AnnotationFormat, AnnotationKind, Existing
from geomatch.pipeline import Pipeline
from geomatch.transfer.reference import Reference
from geomatch.transfer.references.reference_set import ReferenceSet, read_references
from geomatch.transfer.references.transfer import ReferenceChoice, default_features, open_transfer
from geomatch.transfer.transfer_many import name_targets

PathText = str | os.PathLike[str]


class AnnotationTransfer:
    """Finds on other images what a file marks on one or on many, as ``geomatch transfer`` does.

    The features of references are extracted once. Several threads may use a transfer.

    Attributes:
        reference: the image and its annotations, or those of many images.
        pipeline: what matches it with other images.
    """

    @refuse_unknown_keywords
    def __init__(
        self,
        reference: PathText | None = None,
        *,
        keypoints: PathText | None = None,
        mask: PathText | None = None,
        boxes: PathText | None = None,
        images: Iterable[PathText] = (),
        references: int | None = None,
        across_categories: bool = False,
        pipeline: Pipeline | None = None,
        min_confidence: float = 0.0,
    ) -> None:
        """Read the annotations.

        Args:
            reference: the annotated image, a file. Without it all images that the file of annotations has are
                references.
            keypoints, mask, boxes: the file of its annotations: give one of the three. COCO, labelme, CSV (keypoints
                and boxes), a label image (masks), or an export of CVAT, Label Studio or VIA. For many references: COCO,
                a folder of labelme files, CSV.
            images: of many references: where they are, folders or the images themselves; by default beside the file.
            references: how many of many, the most similar, an image's annotations are transferred from; by default 20
                for keypoints, 5 for masks and boxes.
            across_categories: keypoints of one name count in whatever category they are.
            pipeline: by default ``Pipeline(zoom="off")``; for keypoints of many references with combined features.
            min_confidence: leave out points, masks and boxes of less confidence, in [0, 1].

        Raises:
            GeomatchError: naming the file and what is wrong in it.
        """
        files = {AnnotationKind.keypoints: keypoints, AnnotationKind.masks: mask, AnnotationKind.boxes: boxes}
        given = [(kind, path_of(kind, file)) for kind, file in files.items() if file is not None]
        if len(given) != 1:
            raise InputError("give one of keypoints=FILE, mask=FILE and boxes=FILE")
        if not isinstance(min_confidence, int | float):
            raise InputError(f"min_confidence is {min_confidence}: it must be between 0 and 1")
        ((kind, file),) = given
        count = DEFAULT_REFERENCES[kind] if references is None else whole_number_of("references", references)
        choice = ReferenceChoice(count, across_categories, min_confidence)
        self.reference: Reference | ReferenceSet
        if reference is None:
            self.reference = read_references(file, kind, [path_of("images", each) for each in images])
        else:
            self.reference = Reference.read(path_of("reference", reference), file, kind)
        self.pipeline = pipeline or Pipeline(features=default_features(self.reference), zoom="off")
        self._transfer = open_transfer(self.pipeline, self.reference, choice)

    def __call__(self, image: Image, *, name: str | None = None, mask: ImageMask | None = None) -> AnnotatedImage:
        """Find the annotations on an image.

        Args:
            image: see `Image`.
            name: what files call it; by default its path, or "image".
            mask: the part of it that is searched, see `ImageMask`; by default all.

        Returns:
            Its size and the instances found on it. Each has the label and the number of the reference's instance, a
            confidence, and a shape: `Keypoints`, a `Region` with a mask (H, W) bool, or a box (left, top, right,
            bottom). Positions are pixels of the image, with pixel centres at integers.

        Raises:
            GeomatchError: as `Pipeline.match` does.
        """
        pixels = pixels_of(image)
        called = str(image) if isinstance(image, str | os.PathLike) else "image"
        size = (pixels.shape[1], pixels.shape[2])
        part = None if mask is None else mask_of("mask", mask, size)
        return AnnotatedImage(name or called, size, self._transfer(pixels, part))

    def save(
        self, found: Iterable[AnnotatedImage], path: PathText, *, format: str | None = None, overwrite: bool = False
    ) -> None:
        """Write annotations that this transfer found.

        Args:
            found: the annotations of each image.
            path: a file ("coco", "csv", "cvat", "label-studio"), or a folder with a file for each image ("labelme",
                "png", "yolo").
            format: by default that of the reference's annotations.
            overwrite: write over files that exist.

        Raises:
            GeomatchError: if the format cannot hold them, or the path cannot be written or exists.
        """
        images = list(found)
        annotations = self.reference.annotations
        written = annotations.format if format is None else choice_of(AnnotationFormat, "format", format)
        targets = name_targets(Path(image.name) for image in images)
        existing = Existing.replaced if overwrite else Existing.refused
        kind = self.reference.kind
        output = open_output(path_of("path", path), written, kind, annotations, targets, existing=existing)
        for target, image in zip(targets, images, strict=True):
            output.add(target, image)
        output.close()
