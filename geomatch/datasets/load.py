"""Find a benchmark's folder, choose a split, and read and check its pairs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from geomatch.datasets.base import Benchmark, unpacking
from geomatch.datasets.pairs import AnnotatedPair, PairDataset, PairErrors, PairImage
from geomatch.errors import GeomatchWarning, InputError
from geomatch.registry import DATASETS

DEFAULT_SPLIT = "test"
FOLDER_VARIABLE = "GEOMATCH_DATA"


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of this name. Raises InputError for an unknown name."""
    benchmark: Benchmark = DATASETS.load(name)
    return benchmark


def possible_roots(benchmark: Benchmark) -> list[Path]:
    """The folders where a benchmark is searched by default: below $GEOMATCH_DATA, then below ./data."""
    folders = [Path(os.environ[FOLDER_VARIABLE])] if os.environ.get(FOLDER_VARIABLE) else []
    return [folder / name for folder in (*folders, Path("data")) for name in (benchmark.name, *benchmark.folders)]


def find_root(benchmark: Benchmark, root: Path | None = None) -> Path:
    """A benchmark's folder: ``root`` if given, else the first of `possible_roots` that exists.

    Raises InputError if there is none, with the command that unpacks it if its archive lies there.
    """
    places = possible_roots(benchmark) if root is None else [root]
    found = next((place for place in places if place.is_dir()), None)
    if found is not None:
        return found
    archives = (file for place in places for file in (place, place.with_name(f"{place.name}.zip")) if file.is_file())
    if how := next(filter(None, map(unpacking, archives)), None):
        raise InputError(f"{benchmark.name}: {how}, and name the folder with --root")
    if root is not None:
        raise InputError(f"{root}: no such folder; --root must be the folder of {benchmark.name}")
    looked = " or ".join(dict.fromkeys(str(place.parent / benchmark.name) for place in places))
    raise InputError(f"{benchmark.name} is not at {looked}; {benchmark.instruction}, or name its folder with --root")


def choose_split(benchmark: Benchmark, root: Path, split: str | None = None) -> str:
    """The split to read: ``split`` if given, else the test split, else the only split there, with a GeomatchWarning.

    Raises InputError if there are several splits and none is the test split.
    """
    present = benchmark.splits(root)
    if split is not None or DEFAULT_SPLIT in present or not present:
        return split or DEFAULT_SPLIT
    if len(present) > 1:
        raise InputError(f"{root} has no test split of {benchmark.name}; choose with --split {'|'.join(present)}")
    warnings.warn(f"{root} has only the split '{present[0]}', which is used", GeomatchWarning, stacklevel=2)
    return present[0]


def load_dataset(
    name: str, root: Path | None = None, *, split: str | None = None, skip_bad: bool = False, strict: bool = False
) -> PairDataset:
    """Read a split of a benchmark and check its keypoints.

    Keypoints outside their source image are left out; those outside the target are scored as they are. A pair without
    a keypoint that can be used is left out, and listed in ``skipped``. Warns of what is left out, and if pairs of the
    published split are missing.

    Args:
        name: as `geomatch datasets` lists it.
        root: the benchmark's folder, see `find_root`.
        split: "trn", "val" or "test", see `choose_split`.
        skip_bad: leave out unusable pairs and list the reasons in ``skipped``, instead of stopping at the first.
        strict: a pair with a keypoint that cannot be used, or with none that can, is unusable.

    Raises:
        InputError: for an unknown name, missing or malformed files, or if no pair is left.
    """
    benchmark = find_benchmark(name)
    folder = find_root(benchmark, root)
    chosen = choose_split(benchmark, folder, split)
    errors = PairErrors(skip_bad, strict)
    pairs = benchmark.load(folder, chosen, errors)
    if not pairs:
        unusable = f": all {len(errors.reasons)} are unusable; the first: {errors.reasons[0]}" if errors.reasons else ""
        raise InputError(f"the split '{chosen}' of {benchmark.name} in {folder} has no usable pair{unusable}")
    if errors.keypoints:
        warnings.warn(
            f"{len(errors.keypoints)} keypoint(s) of {name} cannot be used and are left out; the first: "
            f"{errors.keypoints[0]}; --strict refuses their pairs",
            GeomatchWarning,
            stacklevel=2,
        )
    if errors.reasons and not skip_bad:
        warnings.warn(
            f"{len(errors.reasons)} pair(s) of {name} have no usable keypoint and are left out; the first: "
            f"{errors.reasons[0]}; --strict refuses them",
            GeomatchWarning,
            stacklevel=2,
        )
    published, found = benchmark.published(folder, chosen), len(pairs) + len(errors.reasons)
    if published is not None and found != published:
        warnings.warn(
            f"{folder} has {found:,} of the {published:,} pairs of {benchmark.name} {chosen}: the scores are not "
            "those of the benchmark",
            GeomatchWarning,
            stacklevel=2,
        )
    return PairDataset(name, chosen, pairs, errors.reasons)


@dataclass(frozen=True)
class Inventory:
    """The number of usable pairs of a split, of their keypoints and images, and the faults of the unusable pairs."""

    pairs: int
    keypoints: int
    images: int
    faults: Sequence[str]


def check_dataset(benchmark: Benchmark, root: Path, split: str) -> Inventory:
    """Read a whole split with all images. Raises InputError if it cannot be read at all."""
    errors = PairErrors(skip=True)
    usable, images = _readable(benchmark.load(root, split, errors), errors)
    return Inventory(
        len(usable), sum(len(pair.source_points) for pair in usable), images, [*errors.reasons, *errors.keypoints]
    )


def without_unreadable(dataset: PairDataset) -> PairDataset:
    """Keep the pairs whose images and annotations can be read; the reasons of the others are added to ``skipped``.

    Raises InputError if no pair is left.
    """
    errors = PairErrors(skip=True, reasons=list(dataset.skipped))
    usable, _ = _readable(dataset.pairs, errors)
    if not usable:
        raise InputError(f"no pair of {dataset.name} {dataset.split} can be read; the first: {errors.reasons[0]}")
    return replace(dataset, pairs=usable, skipped=errors.reasons)


def _readable(pairs: Iterable[AnnotatedPair], errors: PairErrors) -> tuple[list[AnnotatedPair], int]:
    """The pairs whose images, flows, masks and parts can be read, and the number of distinct images read."""
    loaded: set[PairImage] = set()

    def read(pair: AnnotatedPair) -> AnnotatedPair:
        for image in (pair.source, pair.target):
            if image not in loaded:
                image.load()
                loaded.add(image)
        for annotation in (pair.flow, pair.masks, pair.parts):
            if annotation is not None:
                annotation()
        return pair

    return errors.read_all(pairs, read), len(loaded)
