"""The animals of AP-10K (Yu et al., NeurIPS Datasets 2021), and pairs of them as GeoAware-SC draws them."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomatch.annotations import Box
from geomatch.io.json_text import read_json
from geomatch.io.parsing import position, reading, whole_number

KEYPOINTS = 17
LEAST_SHARED = 3
SEED = 42
FILES = tuple(f"annotations/ap10k-{part}-split1.json" for part in ("train", "test", "val"))
"""Their animals are put together, whatever the file, and split again."""


class Crossing(StrEnum):
    """Which animals are paired: of one species, of two species of a family, or of two families."""

    within_species = "intra-species"
    across_species = "cross-species"
    across_families = "cross-family"


@dataclass(frozen=True)
class Animal:
    """image: its path below the benchmark's folder. keypoints: (17, 3), x, y, and 2 if visible, 0 if absent."""

    image: str
    species: str
    family: str
    keypoints: NDArray[np.float64]
    box: Box

    @property
    def shown(self) -> NDArray[np.bool_]:
        return np.asarray(self.keypoints[:, 2] > 0)


def read_animals(root: Path, crowded: Collection[str]) -> list[Animal]:
    """The usable animals of the official files, by species and number of their image.

    As in the authors' ``prepare_ap10k.ipynb``: the first animal of each photograph, if it has at least three keypoints
    and its photograph is not ``crowded`` (numbers, padded to 12 digits). Raises InputError, naming the file.
    """
    found: dict[int, Animal] = {}
    seen: set[int] = set()
    for name in FILES:
        file = root / name
        document = read_json(file)
        with reading(f"{file}: not AP-10K's annotations"):
            images = {whole_number(each["id"]): str(each["file_name"]) for each in document["images"]}
            categories = {whole_number(each["id"]): each for each in document["categories"]}
            annotations = list(document["annotations"])
        for entry in annotations:
            with reading(f"{file}, annotation {_named(entry)}"):
                number = whole_number(entry["image_id"])
                if number in seen:
                    continue
                seen.add(number)
                if number not in images:
                    raise ValueError(f"its image {number} is not among the document's")
                animal = _read_animal(root, entry, images[number], _category(entry["category_id"], categories))
                few = whole_number(entry["num_keypoints"]) < LEAST_SHARED
            if not few and f"{number:012d}" not in crowded:
                found[number] = animal
    return sorted((found[number] for number in sorted(found)), key=lambda animal: (animal.family, animal.species))


def read_animal(entry: Mapping[str, Any], image: str, species: str, family: str) -> Animal:
    """An annotation's animal. Raises KeyError, TypeError or ValueError if it is malformed."""
    values = [position(value) for value in entry["keypoints"]]
    if len(values) != 3 * KEYPOINTS:
        raise ValueError(f"{len(values)} numbers of keypoints instead of {3 * KEYPOINTS}")
    left, top, width, height = map(position, entry["bbox"])
    if not (width > 0 and height > 0):
        raise ValueError(f"a box without area, {entry['bbox']}")
    return Animal(image, species, family, np.reshape(values, (KEYPOINTS, 3)), (left, top, left + width, top + height))


def split_animals(animals: Iterable[Animal], split: str) -> list[Animal]:
    """Those in a split: of each species the last 30 are for testing, and up to 20 before them for validation."""
    chosen = []
    for _, each in itertools.groupby(animals, lambda animal: (animal.family, animal.species)):
        own = list(each)
        tested = min(30, len(own))
        validated = min(20, len(own) - tested)
        trained = len(own) - tested - validated
        chosen += {"trn": own[:trained], "val": own[trained : trained + validated], "test": own[-tested:]}[split]
    return chosen


def draw_pairs(animals: Sequence[Animal], crossing: Crossing, split: str) -> list[tuple[Animal, Animal, str]]:
    """Pairs of animals of a split that share at least three keypoints, and the category of each.

    Of one species all pairs, for training at most 50 for each animal. Across the species of a family at most 900, for
    validation 400. Across families at most 30 of each two families, for validation 20; their category is "all". Larger
    sets are drawn from with a fixed seed.
    """
    random = np.random.RandomState(SEED)  # its stream never changes between versions of numpy
    drawn: list[tuple[Animal, Animal, str]] = []
    for category, pairs, most in _sets(animals, crossing, split):
        possible = [(a, b) for a, b in pairs if _share_enough(a, b)]
        if most is not None and most < len(possible):
            possible = [possible[index] for index in sorted(random.permutation(len(possible))[:most].tolist())]
        drawn += [(*pair, category) for pair in possible]
    return drawn


def _sets(
    animals: Sequence[Animal], crossing: Crossing, split: str
) -> Iterator[tuple[str, Iterable[tuple[Animal, Animal]], int | None]]:
    """The category, the pairs, and the largest number of pairs of each set that pairs are drawn from."""
    families: defaultdict[str, defaultdict[str, list[Animal]]] = defaultdict(lambda: defaultdict(list))
    for animal in animals:
        families[animal.family][animal.species].append(animal)
    match crossing:
        case Crossing.within_species:
            for species in families.values():
                for name, own in species.items():
                    yield name, itertools.combinations(own, 2), 50 * len(own) if split == "trn" else None
        case Crossing.across_species:
            for family, species in families.items():
                if len(species) > 1:
                    across = itertools.combinations(species.values(), 2)
                    pairs = itertools.chain.from_iterable(itertools.product(*two) for two in across)
                    yield family, pairs, 900 if split == "test" else 400
        case Crossing.across_families:
            members = [[*itertools.chain.from_iterable(species.values())] for species in families.values()]
            for two in itertools.combinations(members, 2):
                yield "all", itertools.product(*two), 30 if split == "test" else 20


def _share_enough(source: Animal, target: Animal) -> bool:
    """Whether they share three keypoints; one that is annotated but covered, 1, counts half in either animal."""
    return bool((source.keypoints[:, 2] / 2) @ (target.keypoints[:, 2] / 2) >= LEAST_SHARED)


def _read_animal(root: Path, entry: Mapping[str, Any], file_name: str, category: Mapping[str, Any]) -> Animal:
    species, family = str(category["name"]), str(category["supercategory"])
    # The authors' notebook moves the photographs.
    folder = "data" if (root / "data").is_dir() else f"JPEGImages/{family}/{species}"
    return read_animal(entry, f"{folder}/{file_name}", species, family)


def _category(number: object, categories: Mapping[int, Mapping[str, Any]]) -> Mapping[str, Any]:
    known = categories.get(whole_number(number))
    if known is None:
        raise ValueError(f"unknown species {number!r}: it is none of the file's {len(categories)} categories")
    return known


def _named(entry: object) -> object:
    return entry.get("id", "without number") if isinstance(entry, dict) else repr(entry)[:40]
