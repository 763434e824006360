"""PASCAL-Part (Chen et al., CVPR 2014) as a benchmark of correspondence: FlowWeb's pairs, with parts and keypoints."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np

from geomatch.datasets.base import (
    Benchmark,
    check_split,
    image_size,
    read_mat,
    read_numbers,
    stored_image,
)
from geomatch.datasets.benchmarks.pf_pascal import NUMBERED
from geomatch.datasets.pairs import (
    NO_POINTS,
    AnnotatedPair,
    BadRows,
    ImageFile,
    Mask,
    Points,
    check_pair,
    common_points,
)
from geomatch.errors import InputError
from geomatch.io.tables import Row, read_table

LIST = "test_pairs_pascal_parts.csv"

Size = tuple[int, int]


def splits(root: Path) -> list[str]:
    return ["test"] if (root / LIST).is_file() else []


def load(root: Path, split: str, bad: BadRows) -> list[AnnotatedPair]:
    """Read the pairs of ``test_pairs_pascal_parts.csv`` (WeakAlign's list): two images a row, paths below ``root``.

    Beside an image lies ``<image>_new.mat``: ``keypts`` 2 x K, x and y from 1, ``part_mask`` H x W x P (H x W for a
    single part), and the ``keypts_status`` 1 x K and ``part_mask_status`` 1 x P of what the image shows. Where it does
    not, ``Annotations_Part/<image>.mat`` of PASCAL-Part itself serves: ``anno.objects``, structs of ``class``, ``mask``
    H x W and ``parts``, structs of ``part_name`` and ``mask`` H x W; the parts are those of the largest object of the
    pair's class, by name, and keypoints there are none. A pair may have no keypoint in common. Parts are read when
    asked for.

    The category is in a column ``class`` or ``category``, by name or VOC number, or else it is the first image's folder
    without FlowWeb's ``_set_N``.

    Raises InputError naming what is missing or malformed.
    """
    check_split(PASCAL_PARTS.name, split, ["test"])
    pair_list = root / LIST
    if not pair_list.is_file():
        raise PASCAL_PARTS.missing([pair_list])
    size, keypoints = cache(image_size), cache(_read_keypoints)
    pairs = []
    for row in read_table(pair_list, name=pair_list.name):
        with bad.tolerated():
            pairs.append(_read_pair(root, row, size, keypoints))
    return pairs


PASCAL_PARTS = Benchmark(
    name="pascal-parts",
    about="part masks and keypoints of 20 classes of PASCAL VOC",
    home="https://www.di.ens.fr/willow/research/cnngeometric/",
    archives="pascal_data.tar",
    splits=splits,
    load=load,
    folders=("PASCAL-Parts",),
)


def read_common_parts(files: tuple[Path, Path], sizes: tuple[Size, Size]) -> tuple[Mask, Mask]:
    """The parts that both images show, (P, H, W) of each, from their ``_new.mat``. Raises InputError."""
    (source, source_shown), (target, target_shown) = map(_read_parts, files, sizes)
    if len(source) != len(target):
        raise InputError(f"{files[0]} has {len(source)} parts, but {files[1]} {len(target)}; unpack both anew")
    return source[source_shown & target_shown], target[source_shown & target_shown]


def read_named_parts(files: tuple[Path, Path], sizes: tuple[Size, Size], category: str) -> tuple[Mask, Mask]:
    """The parts by the same name of the largest object of ``category`` in both images, (P, H, W) of each, by name.

    From PASCAL-Part's own files. Raises InputError.
    """
    source, target = (_read_object(file, size, category) for file, size in zip(files, sizes, strict=True))
    names = sorted(source.keys() & target.keys())
    return _stack(source, names, sizes[0]), _stack(target, names, sizes[1])


def _read_pair(
    root: Path, row: Row, size: Callable[[Path], Size], keypoints: Callable[[Path], Points]
) -> AnnotatedPair:
    source, target = (stored_image(root, name, row.origin) for name in row.first(2))
    category = _category(row, source)
    sizes = size(source.path), size(target.path)
    derived = _derived(source), _derived(target)
    original = _original(root, source), _original(root, target)
    points = NO_POINTS, NO_POINTS
    if all(path.is_file() for path in derived):
        points = _common_points(row.origin, *map(keypoints, derived))
        evidence, parts = derived, partial(read_common_parts, derived, sizes)
    elif all(path.is_file() for path in original):
        evidence, parts = original, partial(read_named_parts, original, sizes, category)
    else:
        raise InputError(
            f"{row.origin}: the images need {derived[0].name} and {derived[1].name} beside them, or "
            f"{original[0]} and {original[1]}"
        )
    pair = AnnotatedPair(source, target, category, *points, origin=row.origin, parts=parts, evidence=evidence)
    if pair.source_points.size:
        check_pair(pair, *sizes)
    return pair


def _category(row: Row, source: ImageFile) -> str:
    for column, value in zip(row.columns, row.values, strict=False):
        if column in ("class", "category"):
            return NUMBERED.get(value, value)
    return re.sub(r"_set_\d+$", "", source.path.parent.name)


def _derived(image: ImageFile) -> Path:
    return image.path.with_name(f"{image.path.stem}_new.mat")


def _original(root: Path, image: ImageFile) -> Path:
    return root / "Annotations_Part" / f"{image.path.stem}.mat"


def _read_keypoints(path: Path) -> Points:
    """(K, 2) from 1 as stored, NaN where the image does not show one."""
    points, shown = read_numbers(path, "keypts", "keypts_status")
    if not points.size:
        return NO_POINTS
    if points.ndim != 2 or len(points) != 2 or shown.size != points.shape[1]:
        raise InputError(f"{path}: 'keypts' {points.shape} and 'keypts_status' {shown.shape} should be 2 x K and 1 x K")
    return np.where(shown.reshape(-1, 1) > 0, points.T, np.nan)


def _common_points(origin: str, source: Points, target: Points) -> tuple[Points, Points]:
    """The keypoints that both images show, from 0; none where an image is annotated with none at all."""
    if not len(source) or not len(target):
        return NO_POINTS, NO_POINTS
    source, target = common_points(origin, source, target)
    return source - 1, target - 1


def _read_parts(path: Path, size: Size) -> tuple[Mask, Mask]:
    """Masks (P, H, W) and which of them the image shows, (P,)."""
    masks, shown = read_numbers(path, "part_mask", "part_mask_status")
    if not masks.size:
        masks = np.zeros((*size, 0))
    elif masks.ndim == 2:
        masks = masks[..., None]
    if masks.shape != (*size, shown.size):
        raise InputError(
            f"{path}: 'part_mask' {masks.shape} and 'part_mask_status' {shown.shape} should be H x W x P, as its image "
            f"{size}, and 1 x P"
        )
    return np.moveaxis(masks > 0, -1, 0), shown.ravel() > 0


def _read_object(path: Path, size: Size, category: str) -> dict[str, Mask]:
    """The parts of the largest object of ``category``: (H, W) by name."""
    (annotation,) = read_mat(path, "anno")
    try:
        things = [thing for thing in annotation["objects"][0, 0].ravel() if thing["class"].item() == category]
        areas = [np.count_nonzero(thing["mask"]) for thing in things]
        listed = things[int(np.argmax(areas))]["parts"].ravel() if things else []
        parts: dict[str, Mask] = {str(part["part_name"].item()): part["mask"] > 0 for part in listed}
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: 'anno' is not as PASCAL-Part has it ({error})") from error
    if not things:
        raise InputError(f"{path}: annotates no {category}")
    for name, mask in parts.items():
        if mask.shape != size:
            raise InputError(f"{path}: the mask of part '{name}' is {mask.shape}, but its image {size}")
    return parts


def _stack(parts: dict[str, Mask], names: list[str], size: Size) -> Mask:
    return np.array([parts[name] for name in names], dtype=bool).reshape(-1, *size)
