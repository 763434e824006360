"""SPair-71k (Min et al., 2019) and other benchmarks in its layout, such as animal-parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path

import numpy as np

from geomatch.annotations import Box, Points
from geomatch.datasets.base import Benchmark, image_size, stored_image
from geomatch.datasets.pairs import AnnotatedPair, PairErrors, check_pair
from geomatch.io.folders import files_like
from geomatch.io.json_text import read_json
from geomatch.io.parsing import reading

SPLITS = ("trn", "val", "test")


def splits(root: Path) -> list[str]:
    return [split for split in SPLITS if files_like(root / "PairAnnotation" / split, "*.json")]


def load(root: Path, split: str, errors: PairErrors) -> list[AnnotatedPair]:
    """Read ``PairAnnotation/<split>/*.json`` and their images in ``JPEGImages/<category>/``.

    Points and boxes are in pixels from 0. An entry may have a category for each image, ``src_category`` and
    ``trg_category``; its ``category`` is then ``<one>-to-<other>`` where they differ, and its group ``within`` or
    ``across``. Every pair listed in ``Layout/large/<split>.txt``, if that exists, must be present; colons in file names
    are ignored, because some file systems remove them.

    Raises InputError naming what is missing or malformed.
    """
    folder = root / "PairAnnotation" / split
    files = files_like(folder, "*.json")
    missing = _missing(root, split, files) if files else [folder]
    if not (root / "JPEGImages").is_dir():
        missing.append(root / "JPEGImages")
    if missing:
        raise SPAIR_71K.missing(missing)
    size = cache(image_size)
    return errors.read_all(files, lambda file: _read_pair(root, file, size))


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

ANIMAL_PARTS = Benchmark(
    name="animal-parts",
    about="keypoints within and across classes, in the layout of SPair-71k",
    home="",
    archives="a folder of your own with JPEGImages and PairAnnotation as in SPair-71k",
    splits=splits,
    reader=load,
    known_splits=SPLITS,
)


def _missing(root: Path, split: str, files: Collection[Path]) -> list[Path]:
    layout = root / "Layout" / "large" / f"{split}.txt"
    if not layout.is_file():
        return []
    present = {_letters(file.stem) for file in files}
    listed = layout.read_text(encoding="utf-8", errors="replace").split()
    return [root / "PairAnnotation" / split / f"{name}.json" for name in listed if _letters(name) not in present]


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name)


def _read_pair(root: Path, file: Path, size: Callable[[Path], tuple[int, int]]) -> AnnotatedPair:
    entry = read_json(file)
    with reading(f"{file}: not a pair annotation of SPair"):
        category = str(entry["category"])
        names = [
            f"JPEGImages/{entry.get(f'{side}_category', category)}/{entry[f'{side}_imname']}" for side in ("src", "trg")
        ]
        source_points, target_points = (_points(entry[f"{side}_kps"]) for side in ("src", "trg"))
        source_box, target_box = (_box(entry[f"{side}_bndbox"]) for side in ("src", "trg"))
    source, target = (stored_image(root, name, file.name) for name in names)
    group = None
    if "src_category" in entry:
        group = "within" if entry["src_category"] == entry.get("trg_category") else "across"
    pair = AnnotatedPair(
        source, target, category, source_points, target_points, source_box, target_box, group, file.name
    )
    return check_pair(pair, size(source.path))


def _points(values: object) -> Points:
    """Points (K, 2), NaN where one is null. Raises ValueError."""
    if not isinstance(values, list):
        raise ValueError("keypoints must be a list")
    return np.array([(None, None) if each is None else each for each in values], dtype=np.float64).reshape(-1, 2)


def _box(values: object) -> Box:
    left, top, right, bottom = np.array(values, dtype=np.float64).tolist()
    if not (-np.inf < left < right < np.inf and -np.inf < top < bottom < np.inf):
        raise ValueError(f"a box without area, {values}")
    return left, top, right, bottom
