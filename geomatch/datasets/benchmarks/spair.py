"""SPair-71k (Min et al., 2019) and other benchmarks in its layout, such as animal-parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from geomatch.annotations import Box, Points
from geomatch.datasets.base import Benchmark, image_size, stored_image
from geomatch.datasets.benchmarks.repeated_parts import SPAIR, Groups, geometry_aware
from geomatch.datasets.pairs import AnnotatedPair, PairErrors, check_pair
from geomatch.errors import InputError
from geomatch.io.folders import files_like
from geomatch.io.json_text import read_json
from geomatch.io.names import find_below
from geomatch.io.parsing import position, reading, whole_number

SPLITS = ("trn", "val", "test")

_DEGREES = ("easy", "medium", "hard")
_SIDES = ("none", "source", "target", "both")
VARIATIONS: Mapping[str, tuple[str, Sequence[str]]] = {
    "viewpoint_variation": ("viewpoint", _DEGREES),
    "scale_variation": ("scale", _DEGREES),
    "truncation": ("truncation", _SIDES),
    "occlusion": ("occlusion", _SIDES),
}
"""For each flag of a pair: its name in results, and the names of its values from 0 (SPair-71k, table 3)."""

Shown = Mapping[int, tuple[float, float]]
"""Positions of the keypoints that an image shows, by number."""


@dataclass(frozen=True)
class _Folders:
    """Where annotations and images are, and what their keypoints mean.

    root: of the annotations. images: the folder that has ``JPEGImages``. pairs, keypoints: names below the root.
    repeated: by class, the groups of keypoints of parts that an object has more than once.
    """

    root: Path
    images: Path
    pairs: str = "PairAnnotation"
    keypoints: str = "ImageAnnotation"
    repeated: Mapping[str, Groups] = field(default_factory=dict)


def splits(root: Path) -> list[str]:
    return [split for split in SPLITS if files_like(root / "PairAnnotation" / split, "*.json")]


def load(root: Path, split: str, errors: PairErrors) -> list[AnnotatedPair]:
    """Read ``PairAnnotation/<split>/*.json`` and their images in ``JPEGImages/<category>/``.

    Points and boxes are in pixels from 0. An entry may have a category for each image, ``src_category`` and
    ``trg_category``; its ``category`` is then ``<one>-to-<other>`` where they differ, and its group ``within`` or
    ``across``. ``viewpoint_variation``, ``scale_variation``, ``truncation`` and ``occlusion`` say how difficult a pair
    is. With ``kps_ids``, and all keypoints of the images in ``ImageAnnotation/<category>/*.json``, a pair knows its
    hidden and its geometry-aware keypoints. Every pair listed in ``Layout/large/<split>.txt``, if that exists, must be
    present; colons in file names are ignored, because some file systems remove them.

    Raises InputError naming what is missing or malformed.
    """
    return _read_split(SPAIR_71K, _Folders(root, root, repeated=SPAIR), split, errors)


def load_own(root: Path, split: str, errors: PairErrors) -> list[AnnotatedPair]:
    """Read pairs in the same layout whose ``kps_ids`` have meanings of their own. Raises InputError."""
    return _read_split(ANIMAL_PARTS, _Folders(root, root), split, errors)


def unseen_splits(root: Path) -> list[str]:
    return ["test"] if files_like(root / _unseen(root).pairs / "test", "*.json") else []


def load_unseen(root: Path, split: str, errors: PairErrors) -> list[AnnotatedPair]:
    """Read SPair-U, as `load` reads SPair-71k. Raises InputError naming what is missing or malformed."""
    return _read_split(SPAIR_U, _unseen(root), split, errors)


SPAIR_71K = Benchmark(
    name="spair-71k",
    about="keypoints of 18 classes, large changes of viewpoint and scale",
    home="https://cvlab.postech.ac.kr/research/SPair-71k/",
    archives="SPair-71k.tar.gz",
    splits=splits,
    reader=load,
    known_splits=SPLITS,
    folders=("SPair-71k",),
    counts={"trn": 53340, "val": 5384, "test": 12234},
)

SPAIR_U = Benchmark(
    name="spair-u",
    about="keypoints that no training pair has, on the test pairs of SPair-71k",
    home="https://groups.inf.ed.ac.uk/hbilen-data/data/JamaisVuData/SPair-U.zip",
    archives="SPair-U.zip (and SPair-71k.tar.gz beside it, for the images)",
    splits=unseen_splits,
    reader=load_unseen,
    folders=("SPair-U",),
)
"""SPair-U (Mariotti et al., Jamais Vu, NeurIPS 2025), in the layout of SPair-71k, as its README says. The names of its
folders may begin with ``Extra``, as the authors' ``utils_dataset.py`` has them."""

ANIMAL_PARTS = Benchmark(
    name="animal-parts",
    about="keypoints within and across classes, in the layout of SPair-71k",
    home="",
    archives="a folder of your own with JPEGImages and PairAnnotation as in SPair-71k",
    splits=splits,
    reader=load_own,
    known_splits=SPLITS,
)


def _unseen(root: Path) -> _Folders:
    """Where SPair-U's annotations and images are: images in a ``JPEGImages`` beside, or in SPair-71k's folder beside.

    Annotations that have a training split, too, are SPair-71k's own.
    """
    places = (root, *(root.parent / name for name in ("SPair-71k", "spair-71k")))
    images = next((place for place in places if (place / "JPEGImages").is_dir()), root)
    extra = (root / "ExtraPairAnnotation").is_dir() or (root / "PairAnnotation" / "trn").is_dir()
    return _Folders(root, images, *(("ExtraPairAnnotation", "ExtraImageAnnotation") if extra else ()))


def _read_split(benchmark: Benchmark, folders: _Folders, split: str, errors: PairErrors) -> list[AnnotatedPair]:
    folder = folders.root / folders.pairs / split
    files = files_like(folder, "*.json")
    missing = _missing(folders.root / "Layout" / "large" / f"{split}.txt", folder, files) if files else [folder]
    if not (folders.images / "JPEGImages").is_dir():
        missing.append(folders.images / "JPEGImages")
    if missing:
        raise benchmark.missing(missing)
    size, shown = cache(image_size), cache(_read_shown)
    return errors.read_all(files, lambda file: _read_pair(folders, file, size, shown))


def _missing(layout: Path, folder: Path, files: Collection[Path]) -> list[Path]:
    if not layout.is_file():
        return []
    present = {_letters(file.stem) for file in files}
    listed = layout.read_text(encoding="utf-8", errors="replace").split()
    return [folder / f"{name}.json" for name in listed if _letters(name) not in present]


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name)


def _read_pair(
    folders: _Folders, file: Path, size: Callable[[Path], tuple[int, int]], shown: Callable[[Path], Shown]
) -> AnnotatedPair:
    entry = read_json(file)
    with reading(f"{file}: not a pair annotation of SPair"):
        category = str(entry["category"])
        names = [f"{entry.get(f'{side}_category', category)}/{entry[f'{side}_imname']}" for side in ("src", "trg")]
        source_points, target_points = (_points(entry[f"{side}_kps"]) for side in ("src", "trg"))
        source_box, target_box = (_box(entry[f"{side}_bndbox"]) for side in ("src", "trg"))
        variations = tuple(_variation(flag, entry[flag]) for flag in VARIATIONS if flag in entry)
        numbers = None if "kps_ids" not in entry else [whole_number(number) for number in entry["kps_ids"]]
        if numbers is not None and len(numbers) != len(source_points):
            raise ValueError(f"{len(source_points)} source keypoints but {len(numbers)} kps_ids")
    source, target = (stored_image(folders.images, f"JPEGImages/{name}", file.name) for name in names)
    group = None
    if "src_category" in entry:
        group = "within" if entry["src_category"] == entry.get("trg_category") else "across"
    hidden, aware = None, None
    if numbers is not None and (folders.root / folders.keypoints).is_dir():
        below = folders.root / folders.keypoints
        in_source, in_target = (shown(find_below(below, f"{name.rpartition('.')[0]}.json")) for name in names)
        hidden = np.array([in_source[each] for each in sorted({*in_source} - {*in_target})], np.float64).reshape(-1, 2)
        aware = geometry_aware(groups, numbers, in_target) if (groups := folders.repeated.get(category)) else None
    pair = AnnotatedPair(
        source,
        target,
        category,
        source_points,
        target_points,
        source_box,
        target_box,
        group,
        file.name,
        variations=variations,
        hidden_points=hidden,
        geometry_aware=aware,
    )
    return check_pair(pair, size(source.path))


def _read_shown(file: Path) -> Shown:
    """The keypoints ``kps`` of an image's annotation, positions by number, null where absent. Raises InputError."""
    if not file.is_file():
        raise InputError(f"{file}: missing; unpack the annotations again")
    entry = read_json(file)
    with reading(f"{file}: not an image annotation of SPair"):
        return {
            whole_number(number): (position(at[0]), position(at[1]))
            for number, at in entry["kps"].items()
            if at is not None
        }


def _variation(flag: str, value: object) -> str:
    """The name in results of a flag's value. Raises ValueError for an unknown one."""
    name, values = VARIATIONS[flag]
    place = whole_number(value)
    if not 0 <= place < len(values):
        raise ValueError(f"{flag} is {value!r}; known are 0 to {len(values) - 1}")
    return f"{name}: {values[place]}"


def _points(values: object) -> Points:
    """Points (K, 2), NaN where one is null. Raises ValueError."""
    if not isinstance(values, list):
        raise ValueError("keypoints must be a list")
    return np.array([(None, None) if each is None else each for each in values], dtype=np.float64).reshape(-1, 2)


def _box(values: object) -> Box:
    numbers = values.replace(",", " ").split() if isinstance(values, str) else values
    left, top, right, bottom = np.array(numbers, dtype=np.float64).tolist()
    if not (-np.inf < left < right < np.inf and -np.inf < top < bottom < np.inf):
        raise ValueError(f"a box without area, {values}")
    return left, top, right, bottom
