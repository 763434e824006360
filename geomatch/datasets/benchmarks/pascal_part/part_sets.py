"""Pairs of objects with parts, drawn as FlowWeb does (Zhou et al., CVPR 2015): all ordered pairs within sets.

A set of FlowWeb has crops of objects of one class, seen from one side. Which objects its sets hold has no published
rule. Here a set has up to SET_SIZE objects of one class and one ``pose`` of VOC, at random with a fixed seed, and a
class has a set for each of the SETS poses that most objects have. Truncated, difficult and small objects are left out.
Across classes, every object of a set is paired with every object of the other class's set of the same pose (ours).
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import permutations, product
from pathlib import Path

import numpy as np

from geomatch.datasets.base import Benchmark, image_size
from geomatch.datasets.benchmarks.pascal_part.part_objects import (
    PartObject,
    common_parts,
    in_box,
    read_objects,
    stacked,
)
from geomatch.datasets.benchmarks.pascal_part.voc_objects import (
    VocObject,
    read_keypoints,
    read_voc_objects,
    shared_points,
)
from geomatch.datasets.pairs import AnnotatedPair, CroppedImage, Mask, PairErrors, check_pair
from geomatch.datasets.pascal_ilsvrc import VOC_CLASSES
from geomatch.errors import GeomatchWarning

PARTS = "Annotations_Part"
SET_SIZE = 10
SETS = 2
SEED = 0
MARGIN = 0.1
"""How far a crop goes beyond the object's box on each side, as a share of its width or height."""

CLASS_PAIRS = (
    ("aeroplane", "bird"),
    ("bicycle", "motorbike"),
    ("motorbike", "bicycle"),
    ("bus", "car"),
    ("car", "bus"),
    ("bus", "train"),
    ("cat", "dog"),
    ("dog", "cat"),
    ("cat", "horse"),
    ("horse", "cat"),
    ("cow", "horse"),
    ("horse", "cow"),
    ("cow", "sheep"),
    ("sheep", "cow"),
    ("dog", "horse"),
)
"""The pairs of classes that are matched across (ours)."""

ObjectPair = tuple[VocObject, VocObject]
Sets = Mapping[tuple[str, str], Sequence[VocObject]]
"""Objects by class and pose."""


@dataclass(frozen=True)
class Folders:
    """The folders of PASCAL-Part's .mat files, of VOC's images and .xml files, and of PASCAL3D+, if there is one."""

    parts: Path
    images: Path
    objects: Path
    keypoints: Path | None


def find_folders(root: Path) -> tuple[Folders, list[Path]]:
    """The folders below ``root`` where the official archives unpack to, and those that are missing."""
    homes = [root, *(root / name for name in ("VOC2010", "VOCdevkit/VOC2010", "VOC2012", "VOCdevkit/VOC2012"))]
    voc = next((home for home in homes if (home / "JPEGImages").is_dir()), homes[2])
    parts = next((home / PARTS for home in (*homes, root / "trainval") if (home / PARTS).is_dir()), root / PARTS)
    keypoints = next(iter(sorted(root.glob("PASCAL3D+*/Annotations"))), None)
    folders = Folders(parts, voc / "JPEGImages", voc / "Annotations", keypoints)
    return folders, [each for each in (parts, folders.images, folders.objects) if not each.is_dir()]


def draw_within(sets: Sets) -> Iterator[ObjectPair]:
    """All ordered pairs of objects of each set of a class; of the SETS poses with the most objects."""
    for category in VOC_CLASSES:
        poses = sorted((pose for name, pose in sets if name == category), key=lambda pose: -len(sets[category, pose]))
        for pose in poses[:SETS]:
            yield from permutations(_drawn(sets[category, pose]), 2)


def draw_across(sets: Sets) -> Iterator[ObjectPair]:
    """All pairs of objects from one class to another, of the pose that most objects of both have."""
    for source, target in CLASS_PAIRS:
        shared = [pose for name, pose in sets if name == source and (target, pose) in sets]
        if shared:
            pose = max(shared, key=lambda pose: min(len(sets[source, pose]), len(sets[target, pose])))
            yield from product(_drawn(sets[source, pose]), _drawn(sets[target, pose]))


def load_drawn(
    benchmark: Benchmark, root: Path, errors: PairErrors, draw: Callable[[Sets], Iterator[ObjectPair]]
) -> list[AnnotatedPair]:
    """Read the pairs that ``draw`` makes of the official files; warns that they are not those of a publication.

    Raises InputError naming what is missing or malformed.
    """
    folders, missing = find_folders(root)
    if missing:
        raise benchmark.missing(missing)
    stems = {path.stem for path in folders.parts.glob("*.mat")}
    sets: defaultdict[tuple[str, str], list[VocObject]] = defaultdict(list)
    for each in read_voc_objects(folders.objects, stems):
        sets[each.category, each.pose].append(each)
    warnings.warn(
        f"the pairs of {benchmark.name} are drawn from {folders.parts} with seed {SEED}; their scores cannot be "
        "compared with published ones",
        GeomatchWarning,
        stacklevel=4,
    )
    size = cache(image_size)
    ordered = {key: sets[key] for key in sorted(sets)}
    return errors.read_all(draw(ordered), lambda pair: _read_pair(folders, pair, size))


def _drawn(objects: Sequence[VocObject]) -> list[VocObject]:
    """Up to SET_SIZE objects, the same on every machine: RandomState's stream never changes between versions."""
    chosen = np.random.RandomState(SEED).permutation(len(objects))[:SET_SIZE]
    return [objects[index] for index in sorted(chosen.tolist())]


def _read_pair(folders: Folders, pair: ObjectPair, size: Callable[[Path], tuple[int, int]]) -> AnnotatedPair:
    images = [folders.images / f"{each.stem}.jpg" for each in pair]
    source, target = (_crop(path, each, size(path)) for path, each in zip(images, pair, strict=True))
    across = pair[0].category != pair[1].category
    files = folders.parts / f"{pair[0].stem}.mat", folders.parts / f"{pair[1].stem}.mat"
    read = partial(read_pair_objects, files, pair, (size(images[0]), size(images[1])))
    made = AnnotatedPair(
        source,
        target,
        f"{pair[0].category}-to-{pair[1].category}" if across else pair[0].category,
        *shared_points(*(_keypoints(folders, each, crop) for each, crop in zip(pair, (source, target), strict=True))),
        group="across" if across else None,
        origin=f"{source.name} and {target.name}",
        masks=partial(read_cropped_masks, read, (source, target)),
        parts=partial(read_cropped_parts, read, (source, target)),
        annotation_files=files,
    )
    return check_pair(made, source.size) if made.source_points.size else made


def read_pair_objects(
    files: tuple[Path, Path], pair: ObjectPair, sizes: tuple[tuple[int, int], tuple[int, int]]
) -> tuple[PartObject, PartObject]:
    """The two objects of a pair with their masks, on the whole images. Raises InputError."""
    source, target = (
        in_box(read_objects(file, size), each.category, each.box, file)
        for file, each, size in zip(files, pair, sizes, strict=True)
    )
    return source, target


def read_cropped_masks(
    read: Callable[[], tuple[PartObject, PartObject]], crops: tuple[CroppedImage, CroppedImage]
) -> tuple[Mask, Mask]:
    """The masks (H, W) of two objects on their crops."""
    source, target = (crop.crop(each.mask) for crop, each in zip(crops, read(), strict=True))
    return source, target


def read_cropped_parts(
    read: Callable[[], tuple[PartObject, PartObject]], crops: tuple[CroppedImage, CroppedImage]
) -> tuple[Mask, Mask]:
    """The masks (P, H, W) of the parts that two objects share, on their crops."""
    objects = read()
    source, target = (
        crop.crop(stacked(masks, each.mask.shape))
        for crop, masks, each in zip(crops, common_parts(*objects), objects, strict=True)
    )
    return source, target


def _crop(path: Path, each: VocObject, size: tuple[int, int]) -> CroppedImage:
    """The image around an object."""
    left, top, right, bottom = each.box
    x, y = MARGIN * (right - left), MARGIN * (bottom - top)
    height, width = size
    box = (
        max(0, round(left - x)),
        max(0, round(top - y)),
        min(width, round(right + x) + 1),
        min(height, round(bottom + y) + 1),
    )
    return CroppedImage(path, f"{path.name} {each.category} {box[0]},{box[1]}", box)


def _keypoints(folders: Folders, each: VocObject, crop: CroppedImage) -> dict[str, tuple[float, float]]:
    """The keypoints of an object on its crop, by name; none without PASCAL3D+."""
    if folders.keypoints is None:
        return {}
    found = read_keypoints(folders.keypoints / f"{each.category}_pascal" / f"{each.stem}.mat", each.category, each.box)
    return {name: (x - crop.box[0], y - crop.box[1]) for name, (x, y) in found.items()}
