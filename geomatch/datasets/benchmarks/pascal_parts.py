"""PASCAL-Part (Chen et al., CVPR 2014): the pairs of FlowWeb, with part masks and keypoints."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np

from geomatch.annotations import Points
from geomatch.datasets.base import (
    Benchmark,
    image_size,
    read_mat,
    read_numbers,
    stored_image,
)
from geomatch.datasets.benchmarks.pf_pascal import NUMBERED
from geomatch.datasets.pairs import NO_POINTS, AnnotatedPair, ImageFile, Mask, PairErrors, check_pair, common_points
from geomatch.errors import InputError
from geomatch.io.tables import Row, read_table

LIST = "test_pairs_pascal_parts.csv"

Size = tuple[int, int]


def splits(root: Path) -> list[str]:
    return ["test"] if (root / LIST).is_file() else []


def load(root: Path, _split: str, errors: PairErrors) -> list[AnnotatedPair]:
    """Read the pairs of ``test_pairs_pascal_parts.csv`` (WeakAlign's list): two image paths below ``root`` per row.

    Annotations are in ``<image>_new.mat`` beside the image: ``keypts`` 2 x K, x and y from 1; ``part_mask`` H x W x P
    (H x W for a single part); ``keypts_status`` 1 x K and ``part_mask_status`` 1 x P, positive for what is visible.
    Without these files, PASCAL-Part's own ``Annotations_Part/<image>.mat`` are read: ``anno.objects``, structs of
    ``class``, ``mask`` H x W and ``parts``, structs of ``part_name`` and ``mask`` H x W. The parts are then those of
    the largest object of the pair's class, matched by name, and there are no keypoints.

    The category is in the column ``class`` or ``category``, as a name or a VOC number; without such a column it is the
    first image's folder without FlowWeb's suffix ``_set_N``. A pair may have no keypoint in common.

    Raises InputError naming what is missing or malformed.
    """
    pair_list = root / LIST
    if not pair_list.is_file():
        raise PASCAL_PARTS.missing([pair_list])
    size, keypoints = cache(image_size), cache(_read_keypoints)
    rows = read_table(pair_list, name=pair_list.name)
    return errors.read_all(rows, lambda row: _read_pair(root, row, size, keypoints))


PASCAL_PARTS = Benchmark(
    name="pascal-parts",
    about="part masks and keypoints of 20 classes of PASCAL VOC",
    home="https://www.di.ens.fr/willow/research/cnngeometric/",
    archives="pascal_data.tar",
    splits=splits,
    reader=load,
    folders=("PASCAL-Parts",),
)


def read_common_parts(files: tuple[Path, Path], sizes: tuple[Size, Size]) -> tuple[Mask, Mask]:
    """The masks (P, H, W) of the parts that both images show, from their ``_new.mat``. Raises InputError."""
    (source, source_shown), (target, target_shown) = map(_read_parts, files, sizes)
    if len(source) != len(target):
        raise InputError(f"{files[0]} has {len(source)} parts, but {files[1]} has {len(target)}; unpack both again")
    return source[source_shown & target_shown], target[source_shown & target_shown]


def read_named_parts(files: tuple[Path, Path], sizes: tuple[Size, Size], category: str) -> tuple[Mask, Mask]:
    """The masks (P, H, W) of the parts that the largest objects of ``category`` share by name, in alphabetical order.

    files: PASCAL-Part's own. Raises InputError.
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
        annotation_files, parts = derived, partial(read_common_parts, derived, sizes)
    elif all(path.is_file() for path in original):
        annotation_files, parts = original, partial(read_named_parts, original, sizes, category)
    else:
        raise InputError(
            f"{row.origin}: the images need {derived[0].name} and {derived[1].name} beside them, or "
            f"{original[0]} and {original[1]}"
        )
    pair = AnnotatedPair(
        source, target, category, *points, origin=row.origin, parts=parts, annotation_files=annotation_files
    )
    if pair.source_points.size:
        return check_pair(pair, sizes[0])
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
    """(K, 2) from 1 as stored, NaN for keypoints that the image does not show."""
    points, shown = read_numbers(path, "keypts", "keypts_status")
    if not points.size:
        return NO_POINTS
    if points.ndim != 2 or len(points) != 2 or shown.size != points.shape[1]:
        raise InputError(f"{path}: 'keypts' {points.shape} and 'keypts_status' {shown.shape} must be 2 x K and 1 x K")
    return np.where(shown.reshape(-1, 1) > 0, points.T, np.nan)


def _common_points(origin: str, source: Points, target: Points) -> tuple[Points, Points]:
    """The keypoints (K, 2) from 0 that both images show; none if an image has no keypoint."""
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
            f"{path}: 'part_mask' {masks.shape} and 'part_mask_status' {shown.shape} must be H x W x P, as its image "
            f"{size}, and 1 x P"
        )
    return np.moveaxis(masks > 0, -1, 0), shown.ravel() > 0


def _read_object(path: Path, size: Size, category: str) -> dict[str, Mask]:
    """The parts of the largest object of ``category``: (H, W) by name."""
    (annotation,) = read_mat(path, "anno")
    try:
        objects = [each for each in annotation["objects"][0, 0].ravel() if each["class"].item() == category]
        areas = [np.count_nonzero(each["mask"]) for each in objects]
        listed = objects[int(np.argmax(areas))]["parts"].ravel() if objects else []
        parts: dict[str, Mask] = {str(part["part_name"].item()): part["mask"] > 0 for part in listed}
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: 'anno' is not as in PASCAL-Part ({error})") from error
    if not objects:
        raise InputError(f"{path}: has no {category}")
    for name, mask in parts.items():
        if mask.shape != size:
            raise InputError(f"{path}: the mask of part '{name}' is {mask.shape}, but its image is {size}")
    return parts


def _stack(parts: dict[str, Mask], names: list[str], size: Size) -> Mask:
    return np.array([parts[name] for name in names], dtype=bool).reshape(-1, *size)
