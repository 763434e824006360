"""Many annotated images that annotations are transferred from, and what their objects have in common."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from geomatch.annotations import AnnotatedImage, Annotations, Category, Instance, Keypoints, Visibility
from geomatch.errors import GeomatchWarning, InputError
from geomatch.io.annotations.files import gather_annotations
from geomatch.io.annotations.omissions import Omissions
from geomatch.io.annotations.records import annotation_record
from geomatch.io.images import exif_orientation, load_image, read_image
from geomatch.io.inputs import read_input
from geomatch.io.json_text import json_text
from geomatch.options import AnnotationKind
from geomatch.transfer.reference import Reference
from geomatch.transfer.references.marked_images import MarkedImages

_NAMED_AT_MOST = 3


@dataclass(frozen=True)
class ReferenceSet:
    """Images and their annotations of one kind.

    images: each with its objects, numbered by their labels. sha256: of each image's file. annotations: an object for
    each label, as the first that has it, with all keypoints that any object of that label names; and the categories.
    marks_sha256: of the annotations' files, and of what was adopted. marked: how many of the images, the first, people
    have marked, None for all.
    """

    kind: AnnotationKind
    images: Sequence[AnnotatedImage]
    sha256: Sequence[str]
    annotations: Annotations
    marks_sha256: str
    marked: int | None = None

    @property
    def adopted(self) -> range:
        """The places of the images whose objects a transfer has found."""
        count = len(self.images)
        return range(count if self.marked is None else self.marked, count)

    def adopting(self, images: Sequence[AnnotatedImage], sha256: Sequence[str]) -> ReferenceSet:
        """These, and images whose objects a transfer from these has found. sha256: of each image's file."""
        digest = hashlib.sha256(self.marks_sha256.encode())
        digest.update(json_text([annotation_record(image) for image in images]).encode())
        return replace(
            self,
            images=[*self.images, *images],
            sha256=[*self.sha256, *sha256],
            marks_sha256=digest.hexdigest(),
            marked=self.adopted.start,
        )

    @classmethod
    def read(
        cls,
        marks: Path,
        kind: AnnotationKind,
        places: Sequence[Path] = (),
        last: Sequence[Path] = (),
        *,
        strict: bool = False,
    ) -> ReferenceSet:
        """Read what a file, or a folder of labelme files, annotates.

        Images and objects that cannot be used are left out, with one GeomatchWarning that counts them.

        Args:
            places: folders to look for the images in, or the images themselves; last: folders to look in, too, if
                there are none. See `MarkedImages.locate`.
            strict: refuse annotations of which something cannot be used.

        Raises InputError, naming the file, if no annotated image is left.
        """
        marked = MarkedImages.open(marks, kind, strict=strict)
        images, hashes, read = [], [], []
        for path, source in marked.locate(places, last).items():
            own = Omissions(f"{marks}, {path.name}", strict)
            try:
                photograph = read_input(path)
                image, orientation = read_image(photograph), exif_orientation(photograph)
                found = gather_annotations(source(), kind, path, image.size, own, orientation=orientation)
            except InputError as error:
                marked.omissions.fault(str(path), str(error).removeprefix(f"{path}: "))
                continue
            marked.omissions.faults += [f"{path.name}, {fault}" for fault in own.faults]
            marked.omissions.others.update(own.others)
            marked.omissions.assumptions.update(own.assumptions)
            if not found.instances:
                marked.omissions.others[f"image without {kind}"] += 1
                continue
            images.append(AnnotatedImage(str(path), image.size, found.instances))
            hashes.append(image.sha256)
            read.append(found)
        if not read:
            reason = marked.omissions.summary()
            raise InputError(f"{marks}: marks no {kind} on any image{f' ({reason})' if reason else ''}")
        marked.omissions.warn()
        _tell_lone_names(marks, images)
        common = _common(read)
        number = {each.label: each.number for each in common.instances}
        images = [
            replace(image, instances=[replace(each, number=number[each.label]) for each in image.instances])
            for image in images
        ]
        return cls(kind, images, hashes, common, marked.sha256)

    def only(self) -> Reference:
        """The only image, as a reference by itself."""
        (image,) = self.images
        pixels = read_image(Path(image.name))
        instances = [replace(each, number=number) for number, each in enumerate(image.instances, 1)]
        annotations = replace(self.annotations, instances=instances)
        return Reference(pixels, self.marks_sha256, self.kind, annotations)

    def record(self) -> Mapping[str, Any]:
        """Everything in it that affects a result, ready for JSON."""
        return {"references_sha256": list(self.sha256), "marks_sha256": self.marks_sha256, "marks": self.kind.value}

    def drawn(self) -> tuple[Tensor, AnnotatedImage]:
        """The first image's pixels (3, H, W) uint8 and what is marked on it."""
        return load_image(Path(self.images[0].name)), self.images[0]


def read_references(
    marks: Path,
    kind: AnnotationKind,
    places: Sequence[Path] = (),
    last: Sequence[Path] = (),
    *,
    strict: bool = False,
) -> Reference | ReferenceSet:
    """`ReferenceSet.read`; a single image that is left is a reference by itself. Raises InputError."""
    found = ReferenceSet.read(marks, kind, places, last, strict=strict)
    return found.only() if len(found.images) == 1 else found


def leave_out_references(targets: Sequence[Path], marked: Reference | ReferenceSet) -> list[Path]:
    """The targets that are not references, with one GeomatchWarning of those that are.

    Raises InputError if none is left.
    """
    images = marked.images if isinstance(marked, ReferenceSet) else [marked.drawn()[1]]
    own = {Path(image.name).resolve() for image in images}
    others = [target for target in targets if target.resolve() not in own]
    if targets and not others:
        raise InputError("every image to transfer to is one that is annotated already: name others")
    if left := len(targets) - len(others):
        first = next(target for target in targets if target.resolve() in own)
        more = f" and {left - 1} more" if left > 1 else ""
        warnings.warn(f"{first}{more}: annotated already, so left out", GeomatchWarning, stacklevel=2)
    return others


def _common(read: Sequence[Annotations]) -> Annotations:
    """What annotations of several images have in common: their categories, and an object of each label."""
    categories = _merge_categories([category for each in read for category in each.categories])
    names = {category.name: category.keypoints for category in categories}
    first: dict[str, Instance] = {}
    for each in read:
        for instance in each.instances:
            first.setdefault(instance.label, instance)
    instances = []
    for number, (label, instance) in enumerate(first.items(), 1):
        shape = instance.shape
        if isinstance(shape, Keypoints):
            absent = np.full(len(names[label]), Visibility.absent, dtype=np.int64)
            shape = Keypoints(names[label], np.zeros((len(names[label]), 2)), absent)
        instances.append(replace(instance, number=number, shape=shape))
    return replace(read[0], instances=instances, categories=categories)


def _merge_categories(categories: Sequence[Category]) -> list[Category]:
    """One category of each name, with the keypoints of all of them; numbered anew if two have the same number."""
    merged: dict[str, Category] = {}
    for category in categories:
        known = merged.get(category.name, category)
        names = tuple(dict.fromkeys((*known.keypoints, *category.keypoints)))
        merged[category.name] = replace(known, keypoints=names)
    found = list(merged.values())
    if len({each.id for each in found}) < len(found):
        return [replace(each, id=number) for number, each in enumerate(found, 1)]
    return found


def _tell_lone_names(marks: Path, images: Sequence[AnnotatedImage]) -> None:
    """Warn of names of keypoints that the objects of a single image have: one that is misspelt is found nowhere."""
    if len(images) <= _NAMED_AT_MOST:
        return
    shapes = ([each.shape for each in image.instances if isinstance(each.shape, Keypoints)] for image in images)
    count = Counter(name for own in shapes for name in {name for shape in own for name in shape.names})
    if lone := [name for name, images_with_it in count.items() if images_with_it == 1]:
        named = ", ".join(map(repr, lone[:_NAMED_AT_MOST])) + (" and others" if len(lone) > _NAMED_AT_MOST else "")
        warnings.warn(f"{marks}: marked on one image only: {named}", GeomatchWarning, stacklevel=3)
