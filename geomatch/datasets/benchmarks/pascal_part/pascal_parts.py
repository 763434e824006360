"""PASCAL-Part (Chen et al., CVPR 2014): part masks and keypoints, in the pairs of FlowWeb and across classes."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np

from geomatch.annotations import Points
from geomatch.datasets.base import Benchmark, image_size, read_numbers, stored_image
from geomatch.datasets.benchmarks.pascal_part.flowweb import (
    flowweb_sets,
    load_flowweb,
    points_in_common,
    read_keypoints,
)
from geomatch.datasets.benchmarks.pascal_part.part_objects import common_parts, largest, read_objects, stacked
from geomatch.datasets.benchmarks.pascal_part.part_sets import draw_across, draw_within, find_folders, load_drawn
from geomatch.datasets.benchmarks.pf_pascal import NUMBERED
from geomatch.datasets.pairs import NO_POINTS, AnnotatedPair, ImageFile, Mask, PairErrors, check_pair
from geomatch.errors import InputError
from geomatch.io.tables import Row, read_table

LIST = "test_pairs_pascal_parts.csv"

Size = tuple[int, int]


def splits(root: Path) -> list[str]:
    return ["test"] if (root / LIST).is_file() or flowweb_sets(root) or not find_folders(root)[1] else []


def load(root: Path, _split: str, errors: PairErrors) -> list[AnnotatedPair]:
    """Read WeakAlign's list of pairs; without it FlowWeb's sets; without these draw pairs of the official files.

    Raises InputError naming what is missing or malformed.
    """
    if (root / LIST).is_file():
        return _load_list(root / LIST, errors)
    if sets := flowweb_sets(root):
        return load_flowweb(sets, errors)
    return load_drawn(PASCAL_PARTS, root, errors, draw_within)


def load_across(root: Path, _split: str, errors: PairErrors) -> list[AnnotatedPair]:
    """Draw pairs of different classes of the official files. Raises InputError naming what is missing or malformed."""
    return load_drawn(PASCAL_PARTS_ACROSS, root, errors, draw_across)


def _load_list(pair_list: Path, errors: PairErrors) -> list[AnnotatedPair]:
    """Read the pairs of ``test_pairs_pascal_parts.csv`` (WeakAlign's list): two image paths below its folder per row.

    Annotations are in ``<image>_new.mat`` beside the image: ``keypts`` 2 x K, x and y from 1; ``part_mask`` H x W x P
    (H x W for a single part); ``keypts_status`` 1 x K and ``part_mask_status`` 1 x P, positive for what is visible.
    Without these files, PASCAL-Part's own ``Annotations_Part/<image>.mat`` are read. The parts are then those of the
    largest object of each image's class, see `common_parts`, and there are no keypoints.

    The category is in the column ``class`` or ``category``, as a name or a VOC number; without such a column it is the
    first image's folder without FlowWeb's suffix ``_set_N``. The columns ``source_class`` and ``target_class`` name
    one for each image. A pair may have no keypoint in common.
    """
    size, keypoints = cache(image_size), cache(read_keypoints)
    rows = read_table(pair_list, name=pair_list.name)
    return errors.read_all(rows, lambda row: _read_pair(pair_list.parent, row, size, keypoints))


_ARCHIVES = (
    "trainval.tar.gz (PASCAL-Part) and VOCtrainval_03-May-2010.tar (its images, from "
    "http://host.robots.ox.ac.uk/pascal/VOC/voc2010)"
)
_HOME = "http://roozbehm.info/pascal-parts/pascal-parts.html"

PASCAL_PARTS = Benchmark(
    name="pascal-parts",
    about="part masks and keypoints of 20 classes of PASCAL VOC",
    home=_HOME,
    archives=_ARCHIVES,
    splits=splits,
    reader=load,
    folders=("PASCAL-Parts",),
)

PASCAL_PARTS_ACROSS = Benchmark(
    name="pascal-parts-across",
    about="part masks, from one class to another",
    home=_HOME,
    archives=_ARCHIVES,
    splits=lambda root: [] if find_folders(root)[1] else ["test"],
    reader=load_across,
    folders=("pascal-parts", "PASCAL-Parts"),
)


def read_common_parts(files: tuple[Path, Path], sizes: tuple[Size, Size]) -> tuple[Mask, Mask]:
    """The masks (P, H, W) of the parts that both images show, from their ``_new.mat``. Raises InputError."""
    (source, source_shown), (target, target_shown) = map(_read_parts, files, sizes)
    if len(source) != len(target):
        raise InputError(f"{files[0]} has {len(source)} parts, but {files[1]} has {len(target)}; unpack both again")
    return source[source_shown & target_shown], target[source_shown & target_shown]


def read_named_parts(
    files: tuple[Path, Path], sizes: tuple[Size, Size], categories: tuple[str, str]
) -> tuple[Mask, Mask]:
    """The masks (P, H, W) of the parts that the largest objects of two classes share, see `common_parts`.

    files: PASCAL-Part's own. Raises InputError.
    """
    source, target = (
        largest(read_objects(file, size), category, file)
        for file, size, category in zip(files, sizes, categories, strict=True)
    )
    first, second = common_parts(source, target)
    return stacked(first, sizes[0]), stacked(second, sizes[1])


def _read_pair(
    root: Path, row: Row, size: Callable[[Path], Size], keypoints: Callable[[Path], Points]
) -> AnnotatedPair:
    source, target = (stored_image(root, name, row.origin) for name in row.first(2))
    categories = _categories(row, source)
    sizes = size(source.path), size(target.path)
    derived = _derived(source), _derived(target)
    original = _original(root, source), _original(root, target)
    points = NO_POINTS, NO_POINTS
    if all(path.is_file() for path in derived):
        points = points_in_common(row.origin, *map(keypoints, derived))
        annotation_files, parts = derived, partial(read_common_parts, derived, sizes)
    elif all(path.is_file() for path in original):
        annotation_files, parts = original, partial(read_named_parts, original, sizes, categories)
    else:
        raise InputError(
            f"{row.origin}: the images need {derived[0].name} and {derived[1].name} beside them, or "
            f"{original[0]} and {original[1]}"
        )
    across = categories[0] != categories[1]
    pair = AnnotatedPair(
        source,
        target,
        "-to-".join(categories) if across else categories[0],
        *points,
        group="across" if across else None,
        origin=row.origin,
        parts=parts,
        annotation_files=annotation_files,
    )
    if pair.source_points.size:
        return check_pair(pair, sizes[0])
    return pair


def _categories(row: Row, source: ImageFile) -> tuple[str, str]:
    """The classes of both images."""
    fields = dict(zip(row.columns, row.values, strict=False))
    if "source_class" in fields and "target_class" in fields:
        first, second = (
            NUMBERED.get(fields[f"{side}_class"], fields[f"{side}_class"]) for side in ("source", "target")
        )
        return first, second
    named = fields.get("class", fields.get("category"))
    category = re.sub(r"_set_\d+$", "", source.path.parent.name) if named is None else NUMBERED.get(named, named)
    return category, category


def _derived(image: ImageFile) -> Path:
    return image.path.with_name(f"{image.path.stem}_new.mat")


def _original(root: Path, image: ImageFile) -> Path:
    return root / "Annotations_Part" / f"{image.path.stem}.mat"


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
