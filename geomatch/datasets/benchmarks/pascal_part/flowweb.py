"""FlowWeb's own sets of images (Zhou et al., CVPR 2015): all ordered pairs of images within each set."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, partial
from itertools import permutations
from pathlib import Path

import numpy as np

from geomatch.annotations import Points
from geomatch.datasets.base import image_size, read_mat, read_numbers, stored_image
from geomatch.datasets.benchmarks.pascal_part.part_objects import PartObject, Size, common_parts, stacked
from geomatch.datasets.pairs import NO_POINTS, AnnotatedPair, Mask, PairErrors, check_pair, common_points
from geomatch.errors import InputError

SET = re.compile(r"(?P<category>\w+)_set_\d+")


def flowweb_sets(root: Path) -> list[Path]:
    """The folders ``<class>_set_N``, in ``root`` or where FlowWeb's archive and repository have them; empty without."""
    homes = (root, root / "data", root / "pascal" / "data", root / "pascal_data")
    found = (
        [path for path in sorted(home.glob("*_set_*")) if SET.fullmatch(path.name) and any(path.glob("*.mat"))]
        for home in homes
    )
    return next(filter(None, found), [])


def load_flowweb(sets: Sequence[Path], errors: PairErrors) -> list[AnnotatedPair]:
    """Read all ordered pairs of each set: ``NNN.jpg`` and beside it ``NNN.mat``.

    A .mat file has ``keypts`` 2 x K, x and y from 1, ``keypts_status`` 1 x K, positive for what is visible, and
    ``parts``, structs of ``partName`` and ``mask`` H x W. A pair may have no keypoint or no part in common.

    Raises InputError naming what is missing or malformed.
    """
    size, keypoints = cache(image_size), cache(read_keypoints)
    pairs = (
        (folder, pair)
        for folder in sets
        for pair in permutations(sorted(path.name for path in folder.glob("*.jpg")), 2)
    )

    def read(drawn: tuple[Path, tuple[str, str]]) -> AnnotatedPair:
        folder, names = drawn
        origin = f"{folder.name}, {names[0]} and {names[1]}"
        source, target = (stored_image(folder.parent, f"{folder.name}/{name}", origin) for name in names)
        files = source.path.with_suffix(".mat"), target.path.with_suffix(".mat")
        sizes = size(source.path), size(target.path)
        named = SET.fullmatch(folder.name)
        assert named is not None, "flowweb_sets finds no other folders"
        pair = AnnotatedPair(
            source,
            target,
            named["category"],
            *points_in_common(origin, *map(keypoints, files)),
            origin=origin,
            parts=partial(read_set_parts, files, sizes),
            annotation_files=files,
        )
        return check_pair(pair, sizes[0]) if pair.source_points.size else pair

    return errors.read_all(pairs, read)


def read_set_parts(files: tuple[Path, Path], sizes: tuple[Size, Size]) -> tuple[Mask, Mask]:
    """The masks (P, H, W) of the parts that two images of a set share by name. Raises InputError."""
    source, target = (
        PartObject("", np.zeros(size, bool), _read_parts(file, size)) for file, size in zip(files, sizes, strict=True)
    )
    first, second = common_parts(source, target)
    return stacked(first, sizes[0]), stacked(second, sizes[1])


def read_keypoints(path: Path) -> Points:
    """``keypts`` of a .mat file as (K, 2) from 1, NaN for keypoints that the image does not show. Raises InputError."""
    points, shown = read_numbers(path, "keypts", "keypts_status")
    if not points.size:
        return NO_POINTS
    if points.ndim != 2 or len(points) != 2 or shown.size != points.shape[1]:
        raise InputError(f"{path}: 'keypts' {points.shape} and 'keypts_status' {shown.shape} must be 2 x K and 1 x K")
    return np.where(shown.reshape(-1, 1) > 0, points.T, np.nan)


def points_in_common(origin: str, source: Points, target: Points) -> tuple[Points, Points]:
    """The keypoints (K, 2) from 0 that both images show; none if an image has no keypoint. Raises InputError."""
    if not len(source) or not len(target):
        return NO_POINTS, NO_POINTS
    source, target = common_points(origin, source, target)
    return source - 1, target - 1


def _read_parts(path: Path, size: Size) -> dict[str, Mask]:
    (listed,) = read_mat(path, "parts")
    try:
        parts: dict[str, Mask] = {}
        for part in listed.ravel():
            name, mask = str(part["partName"].item()), part["mask"] > 0
            parts[name] = parts[name] | mask if name in parts else mask
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: 'parts' is not as FlowWeb's ({error})") from error
    for name, mask in parts.items():
        if mask.shape != size:
            raise InputError(f"{path}: the mask of part '{name}' is {mask.shape}, but its image is {size}")
    return parts
