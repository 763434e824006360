"""PF-WILLOW (Ham et al., CVPR 2016): ten classes of ten images with ten keypoints; all 900 ordered pairs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import permutations
from pathlib import Path, PurePosixPath

import numpy as np

from geomatch.annotations import Points
from geomatch.datasets.base import (
    Benchmark,
    image_size,
    read_numbers,
    stored_image,
    unpacked,
)
from geomatch.datasets.pairs import AnnotatedPair, PairErrors, check_pair, common_points
from geomatch.errors import InputError
from geomatch.io.folders import files_like
from geomatch.io.names import name_parts
from geomatch.io.tables import Row, read_table

CLASSES = (
    "car(G)",
    "car(M)",
    "car(S)",
    "duck(S)",
    "motorbike(G)",
    "motorbike(M)",
    "motorbike(S)",
    "winebottle(M)",
    "winebottle(wC)",
    "winebottle(woC)",
)
LISTS = ("test_pairs_pf.csv", "test_pairs.csv")
KEYPOINTS = 10


def splits(root: Path) -> list[str]:
    return ["test"] if any((unpacked(root, "PF-dataset") / name).is_dir() for name in CLASSES) else []


def load(root: Path, _split: str, errors: PairErrors) -> list[AnnotatedPair]:
    """Read ``<class>/<name>.png`` and ``.mat`` (``pts_coord``: 2 x 10, rows x and y, from 1), all pairs of a class.

    root: the folder of the classes, or its parent. Without .mat files, the pairs are those of ``test_pairs_pf.csv`` or
    ``test_pairs.csv``: two images, then XA1..10, YA1..10, XB1..10, YB1..10, from 1.

    Raises InputError naming what is missing or malformed.
    """
    home = unpacked(root, "PF-dataset")
    missing = [home / name for name in CLASSES if not (home / name).is_dir()]
    if missing:
        raise PF_WILLOW.missing(missing)
    annotated = {name: files_like(home / name, "*.mat") for name in CLASSES}
    pair_list = next((folder / name for folder in (home, root) for name in LISTS if (folder / name).is_file()), None)
    if pair_list and not any(annotated.values()):
        return _listed_pairs(home, pair_list, errors)
    missing = [home / name / "*.mat" for name, found in annotated.items() if not found]
    if missing:
        raise PF_WILLOW.missing(missing)
    return _all_pairs(home, annotated, errors)


PF_WILLOW = Benchmark(
    name="pf-willow",
    about="ten keypoints of cars, ducks, motorbikes and wine bottles",
    home="https://www.di.ens.fr/willow/research/proposalflow/",
    archives="PF-dataset.zip",
    splits=splits,
    reader=load,
    folders=("PF-dataset", "PF-WILLOW"),
    counts={"test": 900},
)


def _all_pairs(home: Path, annotated: dict[str, list[Path]], errors: PairErrors) -> list[AnnotatedPair]:
    size, points = cache(image_size), cache(_annotated_points)

    def read(files: tuple[Path, Path]) -> AnnotatedPair:
        source, target = files
        origin = f"{source.parent.name}, {source.stem} to {target.stem}"
        names = [f"{file.parent.name}/{file.stem}.png" for file in files]
        return _make_pair(home, names, origin, points(source), points(target), size)

    return errors.read_all((pair for files in annotated.values() for pair in permutations(files, 2)), read)


def _listed_pairs(home: Path, pair_list: Path, errors: PairErrors) -> list[AnnotatedPair]:
    size = cache(image_size)

    def read(row: Row) -> AnnotatedPair:
        names = ["/".join(name_parts(name)[-2:]) for name in row.first(2)]
        return _make_pair(home, names, row.origin, *_listed_points(row), size)

    return errors.read_all(read_table(pair_list, name=pair_list.name), read)


def _make_pair(
    home: Path,
    names: list[str],
    origin: str,
    source_points: Points,
    target_points: Points,
    size: Callable[[Path], tuple[int, int]],
) -> AnnotatedPair:
    """A checked pair of points (K, 2) counted from 1; row k of one corresponds to row k of the other."""
    source, target = (stored_image(home, name, origin) for name in names)
    category = PurePosixPath(names[0]).parent.name
    if category not in CLASSES:
        raise InputError(f"{origin}: unknown class '{category}'; choose from {', '.join(CLASSES)}")
    common = common_points(origin, source_points, target_points)
    pair = AnnotatedPair(source, target, category, common[0] - 1, common[1] - 1, origin=origin)
    return check_pair(pair, size(source.path))


def _annotated_points(path: Path) -> Points:
    (points,) = read_numbers(path, "pts_coord")
    if points.ndim != 2 or points.shape[0] != 2:
        raise InputError(f"{path}: 'pts_coord' must be 2 x K and is {points.shape}")
    return points.T


def _listed_points(row: Row) -> tuple[Points, Points]:
    values = row.first(2 + 4 * KEYPOINTS)[2:]
    try:
        coordinates = np.array(values, dtype=np.float64).reshape(2, 2, KEYPOINTS)
    except ValueError as error:
        raise InputError(f"{row.origin}: XA1 to YB{KEYPOINTS} must be numbers ({error})") from error
    return coordinates[0].T, coordinates[1].T
