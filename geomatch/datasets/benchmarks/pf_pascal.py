"""PF-PASCAL (Ham et al., PAMI 2018): pairs within PASCAL VOC classes, in the splits of SCNet (Han et al., 2017)."""

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
from geomatch.datasets.pairs import AnnotatedPair, PairErrors, check_pair, common_points, mirror_points
from geomatch.datasets.pascal_ilsvrc import VOC_CLASSES
from geomatch.errors import GeomatchWarning, InputError
from geomatch.io.names import name_parts
from geomatch.io.tables import Row, read_table

FOLDER = "PF-dataset-PASCAL"
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


@dataclass(frozen=True)
class Files:
    """The benchmark's folder, and functions that read image sizes and annotations (cached by the caller)."""

    home: Path
    size: Callable[[Path], tuple[int, int]]
    annotation: Callable[[Path], Annotation | None]


def splits(root: Path) -> list[str]:
    if not (unpacked(root, FOLDER) / "JPEGImages").is_dir():
        return []
    return [split for split in LISTS if _find_list(root, split)]


def load(root: Path, split: str, errors: PairErrors) -> list[AnnotatedPair]:
    """Read a list of pairs named as in LISTS, in ``PF-dataset-PASCAL`` or beside it, or in ``image_pairs`` there.

    root: ``PF-dataset-PASCAL`` or its parent. A row has two images, found by file name in ``JPEGImages``, and the class
    number from 1. Then follow either the points ``XA,YA,XB,YB``, each a list joined by ``;``, from 1; or ``flip``: the
    points are then read from ``Annotations/<class>/<image>.mat`` (``kps``: K x 2, NaN where absent; ``bbox``: 1 x 4;
    both from 1), and images and points are flipped left to right where ``flip`` is 1.

    Raises InputError naming what is missing or malformed. For the training split, warns of images that the other
    splits have, too.
    """
    home, pair_list = unpacked(root, FOLDER), _find_list(root, split)
    missing = [] if (home / "JPEGImages").is_dir() else [home / "JPEGImages"]
    if pair_list is None:
        missing.append(root / "image_pairs" / LISTS[split][0])
    if pair_list is None or missing:
        raise PF_PASCAL.missing(missing)
    if split == "trn":
        _warn_of_overlap(root, pair_list)
    files = Files(home, cache(image_size), cache(_read_annotation))
    return errors.read_all(read_table(pair_list, name=pair_list.name), lambda row: _read_pair(files, row))


PF_PASCAL = Benchmark(
    name="pf-pascal",
    about="keypoints of 20 classes of PASCAL VOC, pairs of similar viewpoint",
    home="https://www.di.ens.fr/willow/research/proposalflow/",
    archives="PF-dataset-PASCAL.zip (and NCNet's lists of pairs, image_pairs/*.csv)",
    splits=splits,
    reader=load,
    known_splits=tuple(LISTS),
    folders=(FOLDER, "PF-PASCAL"),
    counts={"trn": 2940, "val": 308, "test": 299},
)


def _find_list(root: Path, split: str) -> Path | None:
    home = unpacked(root, FOLDER)
    beside = home.parent if home.name == FOLDER else home
    folders = (beside, beside / "image_pairs", home, home / "image_pairs")
    candidates = (folder / name for folder in folders for name in LISTS[split])
    return next((path for path in candidates if path.is_file()), None)


def _warn_of_overlap(root: Path, pair_list: Path) -> None:
    trained = _listed_images(pair_list)
    tested = {name for split in ("val", "test") if (path := _find_list(root, split)) for name in _listed_images(path)}
    shared = len(trained & tested)
    if shared:
        warnings.warn(
            f"{pair_list.name}: {shared} of its {len(trained)} images are also in the validation or test list; "
            "a network trained on them has seen images it is evaluated on",
            GeomatchWarning,
            stacklevel=3,
        )


def _listed_images(pair_list: Path) -> set[str]:
    rows = read_table(pair_list, name=pair_list.name)
    return {name_parts(name)[-1] for row in rows for name in row.values[:2] if name_parts(name)}


def _read_pair(files: Files, row: Row) -> AnnotatedPair:
    source_name, target_name, number = row.take("source_image", "target_image", "class")
    number = _spelt_whole(number)
    if number not in NUMBERED:
        raise InputError(f"{row.origin}: class is '{number}' and must be 1 to {len(NUMBERED)}")
    listed = "XA" in row.columns
    flip = "0" if listed else _spelt_whole(row.take("flip")[0])
    if flip not in ("0", "1"):
        raise InputError(f"{row.origin}: flip is '{flip}' and must be 0 or 1")
    source, target = (
        stored_image(files.home, f"JPEGImages/{''.join(name_parts(name)[-1:])}", row.origin, mirrored=flip == "1")
        for name in (source_name, target_name)
    )
    folder = files.home / "Annotations" / NUMBERED[number]
    known = [files.annotation(folder / f"{image.path.stem}.mat") for image in (source, target)]
    points = _listed_points(row) if listed else [annotation.points for annotation in known if annotation]
    if len(points) < 2:
        raise InputError(f"{row.origin}: has no points, and {folder} has no .mat of {source.name} or {target.name}")
    source_points, target_points = common_points(row.origin, *points)
    pair = AnnotatedPair(
        source,
        target,
        NUMBERED[number],
        source_points - 1,
        target_points - 1,
        source_box=known[0].box if known[0] else None,
        target_box=known[1].box if known[1] else None,
        origin=row.origin,
    )
    sizes = files.size(source.path), files.size(target.path)
    if flip == "1":
        pair = _mirror_annotations(pair, sizes[0][1], sizes[1][1])
    return check_pair(pair, sizes[0])


def _spelt_whole(number: str) -> str:
    """A number as tables of whole numbers spell it: pandas writes 1.0 for 1 beside empty cells."""
    return number.removesuffix(".0")


def _listed_points(row: Row) -> list[Points]:
    try:
        x_source, y_source, x_target, y_target = (
            np.array(value.split(";") if value else [], dtype=np.float64)
            for value in (each.removesuffix(";") for each in row.take(*POINT_COLUMNS))
        )
        return [np.stack((x_source, y_source), axis=1), np.stack((x_target, y_target), axis=1)]
    except ValueError as error:
        raise InputError(
            f"{row.origin}: {','.join(POINT_COLUMNS)} must be numbers joined by ';', as many x as y ({error})"
        ) from error


def _mirror_annotations(pair: AnnotatedPair, source_width: int, target_width: int) -> AnnotatedPair:
    return replace(
        pair,
        source_points=mirror_points(pair.source_points, source_width),
        target_points=mirror_points(pair.target_points, target_width),
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
