"""Benchmarks by name: where each is looked for, which split is read, and what its folder is missing."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from geomatch.datasets.base import Benchmark
from geomatch.datasets.pairs import AnnotatedPair, BadRows, PairDataset, PairImage
from geomatch.errors import GeomatchWarning, InputError
from geomatch.registry import DATASETS

DEFAULT_SPLIT = "test"
FOLDER_VARIABLE = "GEOMATCH_DATA"


def find_benchmark(name: str) -> Benchmark:
    """Raises InputError for an unknown name."""
    benchmark: Benchmark = DATASETS.load(name)
    return benchmark


def possible_roots(benchmark: Benchmark) -> list[Path]:
    """Where a benchmark is looked for when no folder is named: below $GEOMATCH_DATA, then below ./data."""
    folders = [Path(os.environ[FOLDER_VARIABLE])] if os.environ.get(FOLDER_VARIABLE) else []
    return [folder / name for folder in (*folders, Path("data")) for name in (benchmark.name, *benchmark.folders)]


def find_root(benchmark: Benchmark, root: Path | None = None) -> Path:
    """A benchmark's folder: ``root`` if given, else the first of `possible_roots` that exists. Raises InputError."""
    if root is not None:
        if not root.is_dir():
            raise InputError(f"{root}: no such folder; --root should be the folder of {benchmark.name}")
        return root
    places = possible_roots(benchmark)
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        looked = " or ".join(dict.fromkeys(str(place.parent / benchmark.name) for place in places))
        raise InputError(
            f"{benchmark.name} is not at {looked}: take {benchmark.archives} from {benchmark.home}, unpack it there, "
            f"or name its folder with --root"
        )
    return found


def choose_split(benchmark: Benchmark, root: Path, split: str | None = None) -> str:
    """The split to read: the one asked for, else the test split, else the only one there, with a GeomatchWarning.

    Raises InputError if there are several and none is the test split.
    """
    present = benchmark.splits(root)
    if split is not None or DEFAULT_SPLIT in present or not present:
        return split or DEFAULT_SPLIT
    if len(present) > 1:
        raise InputError(f"{root} holds no test split of {benchmark.name}: choose with --split {'|'.join(present)}")
    warnings.warn(f"{root} holds only the split '{present[0]}', which is taken", GeomatchWarning, stacklevel=2)
    return present[0]


def load_dataset(
    name: str, root: Path | None = None, *, split: str | None = None, skip_bad: bool = False
) -> PairDataset:
    """Read a split of a benchmark, every annotation checked.

    root, split: see `find_root`, `choose_split`. skip_bad: leave out pairs that cannot be used, and list why, instead
    of stopping at the first. Warns if the folder holds fewer pairs than the benchmark was published with.

    Raises InputError for unknown names, for what is missing or malformed, and if no pair is left.
    """
    benchmark = find_benchmark(name)
    folder = find_root(benchmark, root)
    chosen = choose_split(benchmark, folder, split)
    bad = BadRows(skip=skip_bad)
    pairs = benchmark.load(folder, chosen, bad)
    if not pairs:
        unusable = f": all {len(bad.reasons)} are unusable, the first because {bad.reasons[0]}" if bad.reasons else ""
        raise InputError(f"the split '{chosen}' of {benchmark.name} in {folder} has no pair{unusable}")
    published, found = benchmark.counts.get(chosen), len(pairs) + len(bad.reasons)
    if published is not None and found != published:
        warnings.warn(
            f"{folder} holds {found:,} of the {published:,} pairs of {benchmark.name} {chosen}: the scores are not "
            "those of the whole benchmark",
            GeomatchWarning,
            stacklevel=2,
        )
    return PairDataset(name, chosen, pairs, bad.reasons)


@dataclass(frozen=True)
class Inventory:
    """What a split holds: usable pairs, their keypoints and distinct images, and why each other pair is unusable."""

    pairs: int
    keypoints: int
    images: int
    faults: Sequence[str]


def check_dataset(benchmark: Benchmark, root: Path, split: str) -> Inventory:
    """Read all of a split. Raises InputError for what is missing as a whole, such as the list of pairs."""
    bad = BadRows(skip=True)
    read: set[PairImage] = set()
    usable = []
    for pair in benchmark.load(root, split, bad):
        with bad.tolerated():
            read_everything(pair, read)
            usable.append(pair)
    return Inventory(len(usable), sum(len(pair.source_points) for pair in usable), len(read), bad.reasons)


def without_unreadable(dataset: PairDataset) -> PairDataset:
    """The pairs whose images, masks, parts and flows can all be read; why the others cannot joins ``skipped``."""
    bad = BadRows(skip=True, reasons=list(dataset.skipped))
    read: set[PairImage] = set()
    usable = []
    for pair in dataset.pairs:
        with bad.tolerated():
            read_everything(pair, read)
            usable.append(pair)
    if not usable:
        raise InputError(f"no pair of {dataset.name} {dataset.split} can be read; the first because {bad.reasons[0]}")
    return replace(dataset, pairs=usable, skipped=bad.reasons)


def read_everything(pair: AnnotatedPair, read: set[PairImage]) -> None:
    """Read a pair's annotations, and its images unless they are in ``read``, where they are put. Raises InputError."""
    for image in (pair.source, pair.target):
        if image not in read:
            image.load()
            read.add(image)
    for annotation in (pair.flow, pair.masks, pair.parts):
        if annotation is not None:
            annotation()
