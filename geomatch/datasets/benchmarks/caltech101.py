"""Caltech-101 (Fei-Fei et al., 2004): 15 pairs per class, with the outlines of the objects."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import permutations
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from geomatch.annotations import Box, Points
from geomatch.datasets.base import Benchmark, image_size, read_numbers, stored_image
from geomatch.datasets.pairs import AnnotatedPair, ImageFile, Mask, PairErrors
from geomatch.errors import GeomatchWarning, InputError
from geomatch.io.images import MAX_PIXELS
from geomatch.io.tables import Row, read_table

LIST = "test_pairs_caltech_with_category.csv"
IMAGES = "101_ObjectCategories"
CLUTTER = "BACKGROUND_Google"
ANNOTATED_AS = {
    "airplanes": "Airplanes_Side_2",
    "Faces": "Faces_2",
    "Faces_easy": "Faces_3",
    "Motorbikes": "Motorbikes_16",
}
PAIRS_PER_CLASS = 15
SEED = 0


@dataclass(frozen=True)
class Silhouette:
    """An object's outline (N, 2), x then y in pixels from 0, in an image of ``size`` (height, width)."""

    outline: Points
    size: tuple[int, int]

    def mask(self) -> Mask:
        """The filled outline (H, W), including the pixels of the outline."""
        height, width = self.size
        image = Image.new("1", (width, height))
        ImageDraw.Draw(image).polygon([(x, y) for x, y in np.rint(self.outline).tolist()], fill=1)
        return np.array(image)


def splits(root: Path) -> list[str]:
    return ["test"] if (root / IMAGES).is_dir() else []


def load(root: Path, _split: str, errors: PairErrors) -> list[AnnotatedPair]:
    """Read the pairs of ``test_pairs_caltech_with_category.csv`` (WeakAlign's list), or draw pairs if it is missing.

    A row of the list has two image paths below ``root``, a class number, and for each image the x and the y of its
    outline, joined by commas, in pixels from 0 (as WeakAlign reads them).

    Without the list, 15 ordered pairs per class of ``101_ObjectCategories/<class>/image_NNNN.jpg`` are drawn, with a
    GeomatchWarning. Their outlines are in ``Annotations/<class>/annotation_NNNN.mat`` (``obj_contour``: 2 x N, x and y
    relative to the upper left corner of the box; ``box_coord``: top, bottom, left, right, from 1). That folder may have
    its original name. The boxes are those of the masks.

    Raises InputError naming what is missing or malformed.
    """
    pair_list = root / LIST
    needed = (root / IMAGES,) if pair_list.is_file() else (root / IMAGES, root / "Annotations")
    missing = [folder for folder in needed if not folder.is_dir()]
    if missing:
        raise CALTECH_101.missing(missing)
    return _listed_pairs(root, pair_list, errors) if pair_list.is_file() else _drawn_pairs(root, errors)


CALTECH_101 = Benchmark(
    name="caltech-101",
    about="outlines of objects of 101 classes",
    home="https://data.caltech.edu/records/mzrjq-6wc02",
    archives=f"101_ObjectCategories.tar.gz and Annotations.tar (and WeakAlign's {LIST})",
    splits=splits,
    reader=load,
    folders=("Caltech-101", "caltech101"),
    counts={"test": 1515},
)


def draw_masks(source: Silhouette, target: Silhouette) -> tuple[Mask, Mask]:
    return source.mask(), target.mask()


def _listed_pairs(root: Path, pair_list: Path, errors: PairErrors) -> list[AnnotatedPair]:
    size = cache(image_size)

    def read(row: Row) -> AnnotatedPair:
        source_name, target_name, _, *outlines = row.first(7)
        source, target = (stored_image(root, name, row.origin) for name in (source_name, target_name))
        silhouettes = (
            Silhouette(_listed_outline(row.origin, *outlines[:2]), size(source.path)),
            Silhouette(_listed_outline(row.origin, *outlines[2:]), size(target.path)),
        )
        return _make_pair(source, target, silhouettes, row.origin, (pair_list,))

    return errors.read_all(read_table(pair_list, name=pair_list.name), read)


def _drawn_pairs(root: Path, errors: PairErrors) -> list[AnnotatedPair]:
    warnings.warn(
        f"{root / LIST} is missing: {PAIRS_PER_CLASS} pairs per class are drawn with seed {SEED}; their scores cannot "
        "be compared with published ones",
        GeomatchWarning,
        stacklevel=3,
    )
    silhouette = cache(_annotated_silhouette)

    def read(drawn: tuple[str, str, str]) -> AnnotatedPair:
        folder, *names = drawn
        origin = f"{folder}, {names[0]} and {names[1]}"
        source, target = (stored_image(root, f"{IMAGES}/{folder}/{name}", origin) for name in names)
        files = _annotation_file(root, source.path), _annotation_file(root, target.path)
        silhouettes = silhouette(files[0], source.path), silhouette(files[1], target.path)
        return _make_pair(source, target, silhouettes, origin, files)

    folders = sorted(path for path in (root / IMAGES).glob("*") if path.is_dir() and path.name != CLUTTER)
    drawn = (
        (folder.name, *names)
        for folder in folders
        for names in draw_pairs(sorted(path.name for path in folder.glob("image_*.jpg")))
    )
    return errors.read_all(drawn, read)


def draw_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Up to PAIRS_PER_CLASS random ordered pairs of different names, the same on every machine."""
    ordered = list(permutations(names, 2))
    # The stream of RandomState never changes between versions of numpy.
    return [ordered[index] for index in np.random.RandomState(SEED).permutation(len(ordered))[:PAIRS_PER_CLASS]]


def _make_pair(
    source: ImageFile,
    target: ImageFile,
    silhouettes: tuple[Silhouette, Silhouette],
    origin: str,
    annotation_files: tuple[Path, ...],
) -> AnnotatedPair:
    return AnnotatedPair(
        source,
        target,
        category=source.path.parent.name,
        source_box=_mask_box(origin, source, silhouettes[0].mask()),
        target_box=_mask_box(origin, target, silhouettes[1].mask()),
        origin=origin,
        masks=partial(draw_masks, *silhouettes),
        annotation_files=annotation_files,
    )


def _mask_box(origin: str, image: ImageFile, mask: Mask) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise InputError(f"{origin}: the outline encloses no pixel of {image.name}")
    return float(columns[0]), float(rows[0]), float(columns[-1]), float(rows[-1])


def _listed_outline(origin: str, x: str, y: str) -> Points:
    try:
        columns = [[float(value) for value in side.split(",") if value.strip()] for side in (x, y)]
        return _checked_outline(origin, np.array(columns).T)
    except ValueError as error:
        raise InputError(f"{origin}: an outline must be numbers joined by ',', as many x as y ({error})") from error


def _annotation_file(root: Path, image: Path) -> Path:
    folder = root / "Annotations" / image.parent.name
    if not folder.is_dir() and folder.name in ANNOTATED_AS:
        folder = folder.with_name(ANNOTATED_AS[folder.name])
    return folder / f"annotation_{image.stem.removeprefix('image_')}.mat"


def _annotated_silhouette(path: Path, image: Path) -> Silhouette:
    contour, box = read_numbers(path, "obj_contour", "box_coord")
    if contour.ndim != 2 or len(contour) != 2 or box.size != 4:
        raise InputError(f"{path}: 'obj_contour' {contour.shape} and 'box_coord' {box.shape} must be 2 x N and 1 x 4")
    top, _, left, _ = box.ravel()
    corner = np.array((left, top)) - 1
    return Silhouette(_checked_outline(str(path), contour.T + corner), image_size(image))


def _checked_outline(origin: str, outline: Points) -> Points:
    if len(outline) < 3 or not (np.abs(outline) < MAX_PIXELS).all():
        raise InputError(f"{origin}: an outline must have at least 3 finite points and has {len(outline)}")
    return outline
