"""The parts of images that are searched: masks in a folder, named as the images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from geomatch.annotations import Target
from geomatch.arguments import mask_of
from geomatch.errors import InputError
from geomatch.io.folders import files_like
from geomatch.io.images import image_suffixes
from geomatch.io.inputs import read_input, stem_of


@dataclass(frozen=True)
class TargetMasks:
    """Masks by the stems of the images that they are of. sha256: of all of them."""

    files: Mapping[str, Path]
    sha256: str

    @classmethod
    def open(cls, folder: Path, targets: Sequence[Target]) -> TargetMasks:
        """The masks of a folder that are named as targets, but for the suffix.

        Raises InputError if it cannot be read, or holds none.
        """
        if not folder.is_dir():
            raise InputError(f"--target-masks {folder}: not a folder; give one with a mask for each image")
        there = {file.stem: file for file in files_like(folder, "*") if file.suffix.lower() in image_suffixes()}
        files = {stem: there[stem] for stem in dict.fromkeys(stem_of(each.image) for each in targets) if stem in there}
        if not files:
            raise InputError(f"--target-masks {folder}: holds no mask that is named as one of the images")
        digest = hashlib.sha256()
        for file in files.values():
            digest.update(f"{file.name}\0{read_input(file).sha256}\n".encode(errors="surrogateescape"))
        return cls(files, digest.hexdigest())

    def of(self, image: Path, size: tuple[int, int]) -> Tensor | None:
        """The mask (H, W) bool of an image of this (height, width); None: all of it is searched.

        Raises InputError, naming the file, for one of another size, one that is empty, or not a mask.
        """
        file = self.files.get(stem_of(image))
        return None if file is None else mask_of("mask", file, size)

    def record(self) -> Mapping[str, Any]:
        """Everything in it that affects results, ready for JSON."""
        return {"target_masks_sha256": self.sha256}
