"""The images that a COCO document, a table or a folder of labelme's or YOLO's files annotates, each with a file of its
own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from geomatch.errors import InputError
from geomatch.io.annotations.coco import as_coco, split_coco
from geomatch.io.annotations.csv_table import BOX_LAYOUT, POINT_LAYOUT
from geomatch.io.annotations.exports.yolo import DATA_FILE, data_file, is_yolo_pose
from geomatch.io.annotations.files import TABLES, check_holds, suffix_of
from geomatch.io.annotations.labelme import is_labelme
from geomatch.io.annotations.omissions import Omissions
from geomatch.io.folders import files_like
from geomatch.io.images import image_suffixes
from geomatch.io.inputs import InputFile, read_input
from geomatch.io.json_text import json_text, read_json
from geomatch.io.names import find_below, meant_names, name_parts
from geomatch.io.tables import read_table
from geomatch.options import AnnotationFormat, AnnotationKind

Source: TypeAlias = Callable[[], InputFile]
"""Gives the file that annotates an image; it may be made of a part of a larger one."""


@dataclass(frozen=True)
class MarkedImages:
    """The images that a file or folder annotates.

    origin: the file or folder. sha256: of its content. sources: by the images' names, as written. omissions: takes what
    cannot be used of any image.
    """

    origin: Path
    sha256: str
    sources: Mapping[str, Source]
    omissions: Omissions = field(compare=False)

    @classmethod
    def open(cls, origin: Path, kind: AnnotationKind, *, strict: bool = False) -> MarkedImages:
        """Find out which images are annotated. Raises InputError if the format is not known or cannot hold ``kind``."""
        omissions = Omissions(str(origin), strict)
        if origin.is_dir():
            content, sources = _yolo_folder(origin) if kind is AnnotationKind.keypoints else (b"", {})
            if not sources:
                content, sources = _labelme_folder(origin, omissions)
        else:
            file = read_input(origin)
            content, suffix = file.content, suffix_of(file)
            if suffix in TABLES:
                check_holds(file, AnnotationFormat.csv, kind)
                sources = _sources_of_table(file, kind)
            elif suffix == ".json":
                sources = _sources_of_document(file, read_json(file), omissions)
            else:
                raise InputError(
                    f"{file}: cannot annotate several images; give COCO's .json, a .csv, or a folder of labelme files"
                )
        return cls(origin, hashlib.sha256(content).hexdigest(), sources, omissions)

    def locate(self, places: Sequence[Path] = (), last: Sequence[Path] = ()) -> dict[Path, Source]:
        """The images that exist, in the order of the file; the others are left out, as ``omissions`` says.

        Args:
            places: folders to look in, or images, which are then the only ones. Without any: the place that a name
                says, from the current folder and from the folder of the file.
            last: folders to look in, too, if no places are given, after all others.

        Raises InputError if an image among the places is not annotated, or none is found.
        """
        if images := [place for place in places if not place.is_dir()]:
            return {image: self._source_of(image) for image in images}
        beside = self.origin if self.origin.is_dir() else self.origin.parent
        folders = places or [beside, *last]
        found: dict[Path, Source] = {}
        for name, source in self.sources.items():
            tried = [] if places else [Path(name)]
            tried += [path for folder in folders for path in _below(folder, name)]
            path = next((each for each in tried if each.is_file()), None)
            if path is None:
                self.omissions.fault(name, "no such image")
            else:
                found.setdefault(path, source)
        if not found:
            seen = dict.fromkeys(folders if places else [Path(), *folders])
            where = " or in ".join("the current folder" if folder == Path() else str(folder) for folder in seen)
            raise InputError(
                f"{self.origin}: none of the {len(self.sources)} images that it annotates is in {where}; "
                "say with --from where they are"
            )
        return found

    def _source_of(self, image: Path) -> Source:
        meant = meant_names(self.sources, image)
        if len(meant) != 1:
            many = "several images" if meant else "no image"
            raise InputError(f"{self.origin}: annotates {many} named {image.name}; it should have one")
        return self.sources[meant.pop()]


def _below(folder: Path, name: str) -> list[Path]:
    """Where an image may be in a folder: under its path, or under its own name."""
    return [find_below(folder, name), folder / name_parts(name)[-1]] if name_parts(name) else []


def _sources_of_document(file: InputFile, document: Any, omissions: Omissions) -> dict[str, Source]:
    if coco := as_coco(document):
        parts = split_coco(coco, omissions)
        if not parts:
            raise InputError(f"{file}: names no images")
        return {name: partial(_part_of, file, part) for name, part in parts.items()}
    if is_labelme(document):
        return {_labelme_name(document, file.path): lambda: file}
    raise InputError(
        f"{file}: neither COCO (it has no 'images' and 'annotations') nor labelme (no 'shapes'); "
        "of other exports name the image first"
    )


def _part_of(file: InputFile, part: Mapping[str, Any]) -> InputFile:
    return InputFile(file.path, json_text(part).encode(), file.repeatable)


def _labelme_folder(folder: Path, omissions: Omissions) -> tuple[bytes, dict[str, Source]]:
    """The content of all labelme files of a folder, and the files; other JSON files are passed over."""
    contents, sources = [], dict[str, Source]()
    for path in files_like(folder, "*.json"):
        with omissions.tolerated(path.name):
            file = read_input(path)
            document = read_json(file)
            if not is_labelme(document):
                omissions.others["JSON file that is not labelme's"] += 1
                continue
            contents.append(file.content)
            sources.setdefault(_labelme_name(document, path), partial(read_input, path))
    if not sources:
        raise InputError(f"{folder}: holds no labelme file that can be read")
    return b"".join(contents), sources


def _yolo_folder(folder: Path) -> tuple[bytes, dict[str, Source]]:
    """The content of all poses of a folder, and its files, by the images beside them or in a folder ``images``."""
    data = data_file(folder / DATA_FILE)
    contents, sources = [read_input(data).content] if data else [], dict[str, Source]()
    places = [folder, folder.parent / "images", folder.parent.parent / "images" / folder.name]
    files = [file for place in places if place.is_dir() for file in files_like(place, "*")]
    images = {file.stem: str(file) for file in files if file.suffix.lower() in image_suffixes()}
    for path in files_like(folder, "*.txt"):
        file = read_input(path)
        if is_yolo_pose(file.text):
            contents.append(file.content)
            sources[images.get(path.stem, f"{path.stem}.jpg")] = partial(read_input, path)
    return b"".join(contents), sources


def _labelme_name(document: Mapping[str, Any], file: Path) -> str:
    """The path of the image that a labelme file is of; without one it is called as the file."""
    named = document.get("imagePath")
    return "/".join(name_parts(named)) if isinstance(named, str) and name_parts(named) else f"{file.stem}.jpg"


def _sources_of_table(file: InputFile, kind: AnnotationKind) -> dict[str, Source]:
    rows = list(read_table(file, BOX_LAYOUT if kind is AnnotationKind.boxes else POINT_LAYOUT))
    if rows and "image" not in rows[0].columns:
        raise InputError(f"{file}: does not say which image a row is of; add a column 'image', or name the image first")
    return {row.fields["image"]: lambda: file for row in rows if row.fields.get("image")}
