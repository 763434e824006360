"""The benchmark on AP-10K of GeoAware-SC (Zhang et al., CVPR 2024): animals of one species, family or of any two."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geomatch.datasets.base import Benchmark, image_size, stored_image
from geomatch.datasets.benchmarks.ap10k_animals import (
    FILES,
    SEED,
    Animal,
    Crossing,
    draw_pairs,
    read_animal,
    read_animals,
    split_animals,
)
from geomatch.datasets.benchmarks.repeated_parts import AP_10K, geometry_aware
from geomatch.datasets.pairs import AnnotatedPair, PairErrors, check_pair
from geomatch.errors import GeomatchWarning, InputError
from geomatch.io.folders import files_like
from geomatch.io.inputs import read_input
from geomatch.io.json_text import read_json
from geomatch.io.names import find_below, name_parts
from geomatch.io.parsing import reading

CROWDED = "ap-10k_is_crowd.txt"
ANNOTATIONS = "ImageAnnotation"
SUFFIX = {
    Crossing.within_species: "",
    Crossing.across_species: "_cross_species",
    Crossing.across_families: "_cross_family",
}
"""By which the authors' folders of pairs end."""


def splits(crossing: Crossing, root: Path) -> list[str]:
    known = ("trn", "val", "test") if crossing is Crossing.within_species else ("val", "test")
    listed = [split for split in known if files_like(_list_folder(crossing, root, split), "*.json")]
    return listed or ([*known] if all((root / name).is_file() for name in FILES) else [])


def load(crossing: Crossing, root: Path, split: str, errors: PairErrors) -> list[AnnotatedPair]:
    """Read the pairs that the authors' ``prepare_ap10k.ipynb`` writes, or draw pairs from the official files.

    Prepared: ``PairAnnotation/<split>[_cross_species|_cross_family]/*.json`` name two files of
    ``ImageAnnotation/<family>/<species>``; their photographs are at the same place in ``JPEGImages``.

    Official: ``annotations/ap10k-{train,val,test}-split1.json`` and ``data/*.jpg``. Pairs are drawn as the notebook
    draws them (see `draw_pairs`), with a GeomatchWarning: it takes files in the order of the file system, so that its
    own pairs differ from machine to machine. Its list of photographs of crowds, ``ap-10k_is_crowd.txt``, is used if it
    lies in the folder or beside it.

    Keypoints are taken to be in pixels from 0, as there. Every pair knows its hidden and geometry-aware keypoints.

    Raises InputError naming what is missing or malformed.
    """
    folder = _list_folder(crossing, root, split)
    size = cache(image_size)
    if files := files_like(folder, "*.json"):
        animal = cache(partial(_listed_animal, root))
        return errors.read_all(files, lambda file: _listed_pair(root, file, animal, size))
    photographs = next((root / name for name in ("data", "JPEGImages") if (root / name).is_dir()), root / "data")
    missing = [path for path in (*(root / name for name in FILES), photographs) if not path.exists()]
    if missing:
        raise BENCHMARKS[crossing].missing(missing)
    crowded = next((path for path in (root / CROWDED, root.parent / CROWDED) if path.is_file()), None)
    also = "" if crowded else f", and without {CROWDED} of the authors' repository photographs of crowds are in them"
    warnings.warn(
        f"{folder} is missing: pairs are drawn with seed {SEED}, as the authors draw theirs{also}; scores are close to "
        "published ones, but not comparable to the digit",
        GeomatchWarning,
        stacklevel=2,
    )
    animals = split_animals(read_animals(root, read_input(crowded).text.split() if crowded else ()), split)
    drawn = draw_pairs(animals, crossing, split)
    return errors.read_all(drawn, lambda pair: _make_pair(root, *pair, f"{pair[0].image}, {pair[1].image}", size))


def _benchmark(crossing: Crossing, name: str, about: str) -> Benchmark:
    return Benchmark(
        name=name,
        about=about,
        home="https://github.com/AlexTheBad/AP-10K",
        archives="ap-10k.zip",
        splits=partial(splits, crossing),
        reader=partial(load, crossing),
        known_splits=("trn", "val", "test") if crossing is Crossing.within_species else ("val", "test"),
        folders=("AP-10K", "ap-10k"),
    )


AP_10K_SPECIES = _benchmark(Crossing.within_species, "ap-10k", "keypoints of animals of 54 species, within a species")
AP_10K_FAMILY = _benchmark(
    Crossing.across_species, "ap-10k-cross-species", "keypoints of animals, across the species of a family"
)
AP_10K_FAMILIES = _benchmark(Crossing.across_families, "ap-10k-cross-family", "keypoints of animals, across families")
BENCHMARKS = {
    Crossing.within_species: AP_10K_SPECIES,
    Crossing.across_species: AP_10K_FAMILY,
    Crossing.across_families: AP_10K_FAMILIES,
}


def _list_folder(crossing: Crossing, root: Path, split: str) -> Path:
    return root / "PairAnnotation" / f"{split}{SUFFIX[crossing]}"


def _listed_pair(
    root: Path, file: Path, animal: Callable[[str], Animal], size: Callable[[Path], tuple[int, int]]
) -> AnnotatedPair:
    entry = read_json(file)
    with reading(f"{file}: not a pair of AP-10K"):
        source, target = (animal(_below_annotations(str(entry[f"{side}_json_path"]))) for side in ("src", "trg"))
        category = file.stem.rpartition(":")[2] if ":" in file.stem else source.species
    return _make_pair(root, source, target, category, file.name, size)


def _below_annotations(written: str) -> str:
    """The end of a path, after the folder of the annotations. Raises ValueError if it does not go there."""
    parts = name_parts(written)
    if ANNOTATIONS not in parts or ".." in parts or not written.isprintable():
        raise ValueError(f"{written!r} is not a file of {ANNOTATIONS}")
    return "/".join(parts[parts.index(ANNOTATIONS) + 1 :])


def _listed_animal(root: Path, name: str) -> Animal:
    """The animal of ``<family>/<species>/<number>.json``. Raises InputError."""
    file = find_below(root / ANNOTATIONS, name)
    if not file.is_file():
        raise InputError(f"{file}: missing, but in a list of pairs; prepare AP-10K again")
    entry = read_json(file)
    with reading(f"{file}: not an animal of AP-10K"):
        family, species, _ = name.split("/")
        return read_animal(entry, f"JPEGImages/{name.removesuffix('.json')}.jpg", species, family)


def _make_pair(
    root: Path, source: Animal, target: Animal, category: str, origin: str, size: Callable[[Path], tuple[int, int]]
) -> AnnotatedPair:
    first, second = (stored_image(root, animal.image, origin) for animal in (source, target))
    both = source.shown & target.shown
    pair = AnnotatedPair(
        first,
        second,
        category,
        source.keypoints[both, :2],
        target.keypoints[both, :2],
        source.box,
        target.box,
        origin=origin,
        hidden_points=source.keypoints[source.shown & ~target.shown, :2],
        geometry_aware=geometry_aware(AP_10K, _numbers(both), {*_numbers(target.shown)}),
    )
    return check_pair(pair, size(first.path))


def _numbers(which: NDArray[np.bool_]) -> Sequence[int]:
    numbers: list[int] = np.flatnonzero(which).tolist()
    return numbers
