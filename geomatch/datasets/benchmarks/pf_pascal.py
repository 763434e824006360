"""PF-PASCAL (Ham et al., PAMI 2018): pairs within PASCAL VOC classes, in the split of SCNet (Han et al., ICCV 2017)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from geomatch.annotations import Box, Points
from geomatch.datasets.base import (
    Benchmark,
    image_size,
    read_numbers,
    stored_image,
    unpacked,
)
from geomatch.datasets.benchmarks.scnet_split import ListedPair, pairs_of_split
from geomatch.datasets.pairs import AnnotatedPair, PairErrors, check_pair, common_points, mirror_points
from geomatch.datasets.pascal_ilsvrc import VOC_CLASSES
from geomatch.errors import GeomatchWarning, InputError
from geomatch.io.names import name_parts
from geomatch.io.tables import Row, read_table

FOLDER = "PF-dataset-PASCAL"
ALL_PAIRS = "parsePascalVOC.mat"
LISTS = {
    "trn": ("train_pairs.csv", "trn_pairs.csv", "train_pairs_pf_pascal.csv", "trn_pairs_pf_pascal.csv"),
    "val": ("val_pairs.csv", "val_pairs_pf_pascal.csv"),
    "test": ("test_pairs.csv", "test_pairs_pf_pascal.csv"),
}
NUMBERED = {str(number): name for number, name in enumerate(VOC_CLASSES, 1)}
POINT_COLUMNS = ("XA", "YA", "XB", "YB")


@dataclass(frozen=True)
class Annotation:
    """An image's .mat file. points: (K, 2), from 1 as stored, NaN where absent. box: the object's, from 0."""

    points: Points
    box: Box

    def visible(self) -> Points:
        """The points (M, 2) that are not absent, from 0."""
        return self.points[np.isfinite(self.points).all(axis=1)] - 1


@dataclass(frozen=True)
class Files:
    """The benchmark's folder, and functions that read image sizes and annotations (cached by the caller)."""

    home: Path
    size: Callable[[Path], tuple[int, int]]
    annotation: Callable[[Path], Annotation | None]


def splits(root: Path) -> list[str]:
    if not (unpacked(root, FOLDER) / "JPEGImages").is_dir():
        return []
    every = (unpacked(root, FOLDER) / ALL_PAIRS).is_file()
    return [split for split in LISTS if every or _find_list(root, split)]


def load(root: Path, split: str, errors: PairErrors) -> list[AnnotatedPair]:
    """Read a list of pairs named as in LISTS, in ``PF-dataset-PASCAL`` or beside it, or in ``image_pairs`` there.

    root: ``PF-dataset-PASCAL`` or its parent. A row has two images, found by file name in ``JPEGImages``, and the class
    number from 1. The points ``XA,YA,XB,YB``, each a list joined by ``;``, from 1, may follow. Without them, points are
    read from ``Annotations/<class>/<image>.mat`` (``kps``: K x 2, NaN where absent; ``bbox``: 1 x 4; both from 1), and
    images and points are flipped left to right where ``flip``, if there is such a column, is 1. Without a list, the
    pairs are those of ``parsePascalVOC.mat``, see `pairs_of_split`, with a warning.

    Raises InputError naming what is missing or malformed. For the training split, warns of images that the other
    splits have, too.
    """
    home, pair_list = unpacked(root, FOLDER), _find_list(root, split)
    needed = [home / "JPEGImages"] if pair_list else [home / name for name in ("JPEGImages", "Annotations", ALL_PAIRS)]
    missing = [path for path in needed if not path.exists()]
    if missing:
        raise PF_PASCAL.missing(missing)
    if split == "trn":
        _warn_of_overlap(root)
    files = Files(home, cache(image_size), cache(_read_annotation))
    if pair_list:
        rows = read_table(pair_list, name=pair_list.name)
        return errors.read_all(rows, lambda row: _read_pair(files, _listed_pair(row)))
    listed = pairs_of_split(home / ALL_PAIRS, split)
    warnings.warn(
        f"no list of the {split} pairs of pf-pascal in {root}: they are those of {ALL_PAIRS} in SCNet's split, each "
        "once; the lists of NCNet and HPF may differ from it",
        GeomatchWarning,
        stacklevel=2,
    )
    return errors.read_all(listed, lambda pair: _read_pair(files, pair))


PF_PASCAL = Benchmark(
    name="pf-pascal",
    about="keypoints of 20 classes of PASCAL VOC, pairs of similar viewpoint",
    home="https://www.di.ens.fr/willow/research/proposalflow/",
    archives="PF-dataset-PASCAL.zip (lists of pairs, such as image_pairs/test_pairs.csv, may lie beside it)",
    splits=splits,
    reader=load,
    known_splits=tuple(LISTS),
    folders=(FOLDER, "PF-PASCAL"),
    counts={"trn": 2940, "val": 308, "test": 299},
    counted=lambda root, split: _find_list(root, split) is not None,
)


def _find_list(root: Path, split: str) -> Path | None:
    home = unpacked(root, FOLDER)
    beside = home.parent if home.name == FOLDER else home
    folders = (beside, beside / "image_pairs", home, home / "image_pairs")
    candidates = (folder / name for folder in folders for name in LISTS[split])
    return next((path for path in candidates if path.is_file()), None)


def _warn_of_overlap(root: Path) -> None:
    trained, tested = _listed_images(root, "trn"), _listed_images(root, "val") | _listed_images(root, "test")
    shared = len(trained & tested)
    if shared:
        name = pair_list.name if (pair_list := _find_list(root, "trn")) else ALL_PAIRS
        warnings.warn(
            f"{name}: {shared} of its {len(trained)} images are also in the validation or test list; "
            "a network trained on them has seen images it is evaluated on",
            GeomatchWarning,
            stacklevel=3,
        )


def _listed_images(root: Path, split: str) -> set[str]:
    """The file names of a split's images; empty if it is not there."""
    home = unpacked(root, FOLDER)
    if pair_list := _find_list(root, split):
        rows = read_table(pair_list, name=pair_list.name)
        return {name_parts(name)[-1] for row in rows for name in row.values[:2] if name_parts(name)}
    listed = pairs_of_split(home / ALL_PAIRS, split) if (home / ALL_PAIRS).is_file() else []
    return {name for pair in listed for name in (pair.source, pair.target)}


def _listed_pair(row: Row) -> ListedPair:
    source, target, number = row.take("source_image", "target_image", "class")
    number = _spelt_whole(number)
    if number not in NUMBERED:
        raise InputError(f"{row.origin}: class is '{number}' and must be 1 to {len(NUMBERED)}")
    if "XA" in row.columns:
        return ListedPair(row.origin, source, target, NUMBERED[number], points=_listed_points(row))
    flip = _spelt_whole(row.take("flip")[0]) if "flip" in row.columns else "0"
    if flip not in ("0", "1"):
        raise InputError(f"{row.origin}: flip is '{flip}' and must be 0 or 1")
    return ListedPair(row.origin, source, target, NUMBERED[number], mirrored=flip == "1")


def _read_pair(files: Files, listed: ListedPair) -> AnnotatedPair:
    source, target = (
        stored_image(
            files.home, f"JPEGImages/{''.join(name_parts(name)[-1:])}", listed.origin, mirrored=listed.mirrored
        )
        for name in (listed.source, listed.target)
    )
    folder = files.home / "Annotations" / listed.category
    in_source, in_target = (files.annotation(folder / f"{image.path.stem}.mat") for image in (source, target))
    points = listed.points or (_aligned(in_source, in_target) if in_source and in_target else None)
    if points is None:
        raise InputError(f"{listed.origin}: has no points, and {folder} has no .mat of {source.name} or {target.name}")
    source_points, target_points = common_points(listed.origin, *points)
    pair = AnnotatedPair(
        source,
        target,
        listed.category,
        source_points - 1,
        target_points - 1,
        source_box=in_source.box if in_source else None,
        target_box=in_target.box if in_target else None,
        source_keypoints=in_source.visible() if in_source else None,
        target_keypoints=in_target.visible() if in_target else None,
        origin=listed.origin,
    )
    sizes = files.size(source.path), files.size(target.path)
    if listed.mirrored:
        pair = _mirror_annotations(pair, sizes[0][1], sizes[1][1])
    return check_pair(pair, sizes[0])


def _aligned(source: Annotation, target: Annotation) -> tuple[Points, Points]:
    """The points of two images, row by row; those that one of them has more are left out, as HPF and NCNet do."""
    count = min(len(source.points), len(target.points))
    return source.points[:count], target.points[:count]


def _spelt_whole(number: str) -> str:
    """A number as tables of whole numbers spell it: pandas writes 1.0 for 1 beside empty cells."""
    return number.removesuffix(".0")


def _listed_points(row: Row) -> tuple[Points, Points]:
    try:
        x_source, y_source, x_target, y_target = (
            np.array(value.split(";") if value else [], dtype=np.float64)
            for value in (each.removesuffix(";") for each in row.take(*POINT_COLUMNS))
        )
        return np.stack((x_source, y_source), axis=1), np.stack((x_target, y_target), axis=1)
    except ValueError as error:
        raise InputError(
            f"{row.origin}: {','.join(POINT_COLUMNS)} must be numbers joined by ';', as many x as y ({error})"
        ) from error


def _mirror_annotations(pair: AnnotatedPair, source_width: int, target_width: int) -> AnnotatedPair:
    return replace(
        pair,
        source_points=mirror_points(pair.source_points, source_width),
        target_points=mirror_points(pair.target_points, target_width),
        source_keypoints=mirror_points(pair.in_source, source_width),
        target_keypoints=mirror_points(pair.in_target, target_width),
        source_box=pair.source_box and _mirror_box(pair.source_box, source_width),
        target_box=pair.target_box and _mirror_box(pair.target_box, target_width),
    )


def _mirror_box(box: Box, width: int) -> Box:
    left, top, right, bottom = box
    return width - 1 - right, top, width - 1 - left, bottom


def _read_annotation(path: Path) -> Annotation | None:
    if not path.is_file():
        return None
    points, box = read_numbers(path, "kps", "bbox")
    if points.ndim != 2 or points.shape[1] != 2:
        raise InputError(f"{path}: 'kps' must be K x 2 and is {points.shape}")
    if box.size != 4 or not np.isfinite(box).all():
        raise InputError(f"{path}: 'bbox' must be 4 finite numbers and is {box.tolist()}")
    left, top, right, bottom = (float(value) for value in box.ravel() - 1)
    return Annotation(points, (left, top, right, bottom))
