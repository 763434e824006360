"""Pairs of photographs with corresponding keypoints, to learn from: drawn from COCO files, or listed by a benchmark."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from geomatch.annotations import Box, Keypoints, Points
from geomatch.datasets.image_folder import find_images, shards_of
from geomatch.datasets.image_list import LabelledImage
from geomatch.datasets.pairs import AnnotatedPair, PairImage
from geomatch.errors import InputError, did_you_mean
from geomatch.io.annotations.coco import as_coco, read_coco_objects
from geomatch.io.annotations.omissions import Omissions
from geomatch.io.json_text import read_json
from geomatch.io.names import find_below, name_parts, plain_name


@dataclass(frozen=True)
class KeypointView:
    """One photograph of a pair.

    points: (K, 2), in pixels of the photograph. box: the object's; None: the whole photograph. others: boxes of other
    objects on it. mirrored: it is to be shown flipped left to right. The points stay those of the photograph as stored,
    but what was left is then named right, and the other way round.
    """

    image: LabelledImage | PairImage
    points: Points
    box: Box | None = None
    others: tuple[Box, ...] = ()
    mirrored: bool = False


@dataclass(frozen=True)
class KeypointPair:
    """Two views; row k of the points of one corresponds to row k of the other's."""

    first: KeypointView
    second: KeypointView


class PairSource(Protocol):
    """Draws pairs to learn from. photographs: how many it may draw from."""

    @property
    def photographs(self) -> int: ...

    def draw(self, random: np.random.Generator) -> KeypointPair: ...


@dataclass(frozen=True)
class KeypointObject:
    """An object with keypoints on a photograph; ``others`` are the boxes of the other objects on it."""

    image: LabelledImage
    category: str
    keypoints: Keypoints
    box: Box
    others: tuple[Box, ...] = field(default=(), repr=False)


class ListedPairs:
    """The pairs of a benchmark's list. Their keypoints have no names, so both photographs are mirrored or neither."""

    def __init__(self, pairs: Sequence[AnnotatedPair]) -> None:
        """Raises InputError if no pair has a keypoint."""
        self.pairs = [pair for pair in pairs if len(pair.source_points)]
        if not self.pairs:
            raise InputError("no pair has keypoints to learn from")
        self.photographs = len({image.name for pair in self.pairs for image in (pair.source, pair.target)})

    def draw(self, random: np.random.Generator) -> KeypointPair:
        pair, mirrored = self.pairs[random.integers(len(self.pairs))], bool(random.random() < 0.5)
        return KeypointPair(
            KeypointView(pair.source, pair.source_points, pair.source_box, mirrored=mirrored),
            KeypointView(pair.target, pair.target_points, pair.target_box, mirrored=mirrored),
        )


class ObjectPairs:
    """Pairs of objects on two photographs that share at least ``least`` names of keypoints.

    A category is drawn by the square root of its size, then an object of it. Its partner is of the same category or, in
    a share ``across`` of the draws, of another. If the names tell left from right, each photograph is mirrored with
    chance one half, its left and right exchanged; otherwise both are, or neither.
    """

    def __init__(self, objects: Sequence[KeypointObject], across: float, least: int) -> None:
        """Raises InputError if there is no such pair, or none across categories though some are asked for."""
        self.objects, self.least = objects, least
        names = sorted({name for each in objects for name in each.keypoints.names})
        self.exchanged = exchanged_names(names)
        places = {name: place for place, name in enumerate(names)}
        self.points = np.full((len(objects), len(names), 2), np.nan)
        for row, each in zip(self.points, objects, strict=True):
            present = each.keypoints.present
            row[[places[name] for name, seen in zip(each.keypoints.names, present, strict=True) if seen]] = (
                each.keypoints.points[present]
            )
        groups = defaultdict(list)
        for index, each in enumerate(objects):
            groups[each.category].append(index)
        self.groups = [np.array(group) for group in groups.values()]
        photographs = {each.image: number for number, each in enumerate(objects)}
        self.photograph = np.array([photographs[each.image] for each in objects])
        self.photographs = len(photographs)
        self.across = across if len(self.groups) > 1 else 0.0
        self._check()

    def draw(self, random: np.random.Generator) -> KeypointPair:
        while True:  # there is a pair, since `_check` found one
            mirrored = [bool(flip) for flip in random.random(2) < 0.5]
            if self.exchanged is None:
                mirrored[1] = mirrored[0]
            group = self._draw_group(random, range(len(self.groups)))
            crossing = random.random() < self.across
            others = [other for other in range(len(self.groups)) if other != group]
            partners = self.groups[self._draw_group(random, others) if crossing else group]
            first = int(random.choice(self.groups[group]))
            fitting = self._fitting(first, partners, mirrored)
            if len(fitting):
                return self._pair(first, int(random.choice(fitting)), mirrored)

    def _draw_group(self, random: np.random.Generator, groups: Sequence[int]) -> int:
        weights = np.sqrt([len(self.groups[group]) for group in groups])
        return groups[random.choice(len(groups), p=weights / weights.sum())]

    def _named(self, indices: NDArray[np.int64] | int, mirrored: bool) -> NDArray[np.float64]:
        """The points (..., N, 2) of objects by name, as seen in a mirror or not; NaN where absent."""
        points = self.points[indices]
        return points[..., self.exchanged, :] if mirrored and self.exchanged is not None else points

    def _fitting(self, first: int, partners: NDArray[np.int64], mirrored: Sequence[bool]) -> NDArray[np.int64]:
        """Those of the partners, other than on the same photograph, that share enough names with an object."""
        both = self._named(partners, mirrored[1]) + self._named(first, mirrored[0])
        enough = np.isfinite(both[..., 0]).sum(axis=1) >= self.least
        fitting: NDArray[np.int64] = partners[enough & (self.photograph[partners] != self.photograph[first])]
        return fitting

    def _pair(self, first: int, second: int, mirrored: Sequence[bool]) -> KeypointPair:
        points = [self._named(index, flip) for index, flip in zip((first, second), mirrored, strict=True)]
        shared = np.isfinite(points[0] + points[1])[:, 0]
        views = (
            KeypointView(each.image, own[shared], each.box, each.others, flip)
            for each, own, flip in zip((self.objects[first], self.objects[second]), points, mirrored, strict=True)
        )
        return KeypointPair(*views)

    def _check(self) -> None:
        for across in {self.across > 0, self.across == 1}:
            partners = {
                place: np.concatenate([other for other in self.groups if (other is group) != across])
                for place, group in enumerate(self.groups)
            }
            if not any(
                len(self._fitting(int(first), partners[place], (False, False)))
                for place, group in enumerate(self.groups)
                for first in group
            ):
                between = "of two categories " if across else ""
                remedy = "; --set across=0 draws pairs within categories alone" if across else ""
                raise InputError(
                    f"no two objects {between}on different photographs share {self.least} names of keypoints{remedy}"
                )


def exchanged_names(names: Sequence[str]) -> NDArray[np.int64] | None:
    """For each name the place of the name with left and right exchanged, its own if it has neither.

    None if the names do not tell left from right: none says either, or one has no partner.

    >>> exchanged_names(["nose", "left_eye", "right_eye"]).tolist()
    [0, 2, 1]
    """
    places = {name: place for place, name in enumerate(names)}
    others = [_exchanged(name) for name in names]
    if others == list(names) or not all(other in places for other in others):
        return None
    return np.array([places[other] for other in others])


_SIDES = {"left": "right", "right": "left", "l": "r", "r": "l"}


def _exchanged(name: str) -> str:
    """A name with its words left and right, or l and r, exchanged: L_Eye, left eye, leftEye and EyeLeft are known."""

    def other(match: re.Match[str]) -> str:
        word = match[0]
        exchanged = _SIDES[word.lower()]
        return exchanged.upper() if word.isupper() else exchanged.capitalize() if word[0].isupper() else exchanged

    spelt = re.sub(r"(?i:left|right)(?![a-z])", other, name)
    return spelt if spelt != name else re.sub(r"(?<![A-Za-z])[LlRr](?![A-Za-z])", other, name)


def read_keypoint_objects(file: Path, images: Path | None = None) -> list[KeypointObject]:
    """The objects of a COCO file that have keypoints, on photographs found by name.

    images: their folder or tar shards, by default the file's own folder.

    Warns of what cannot be used. Raises InputError if the file is not COCO's, or holds nothing to learn from.
    """
    document = as_coco(read_json(file))
    if document is None:
        raise InputError(f"{file}: not a COCO file (an object with 'images' and 'annotations')")
    omissions = Omissions(str(file))
    objects = read_coco_objects(document, omissions)
    if not objects:
        raise InputError(f"{file}: has no object with keypoints")
    folder = images or file.parent
    photographs = _find_photographs(folder, {plain_name(each.file_name) for each in objects})
    found = [each for each in objects if plain_name(each.file_name) in photographs]
    if not found:
        raise InputError(
            f"{file}: none of its photographs is in {folder} (the first is {objects[0].file_name!r}); "
            "give their folder with --images"
        )
    if missing := len(objects) - len(found):
        omissions.others[f"on photographs that are not in {folder}"] += missing
    omissions.warn()
    boxes = defaultdict(list)
    for each in found:
        boxes[each.file_name].append(each)
    return [
        KeypointObject(
            replace(photographs[plain_name(each.file_name)], stated=each.size),
            each.category,
            each.keypoints,
            each.box,
            tuple(other.box for other in boxes[each.file_name] if other is not each),
        )
        for each in found
    ]


def _find_photographs(folder: Path, names: Collection[str]) -> dict[str, LabelledImage]:
    """Those of the named photographs that are in a folder, or in the tar shards of one. Raises InputError."""
    if shards_of(folder):
        return {each.name: each for each in find_images([folder]) if each.name in names}
    paths = {name: find_below(folder, name) for name in names if ".." not in name_parts(name)}
    return {name: LabelledImage(name, path, ()) for name, path in paths.items() if path.is_file()}


def selected_objects(
    objects: Iterable[KeypointObject], categories: Sequence[str], left_out: Sequence[str]
) -> list[KeypointObject]:
    """The objects of some categories, of all if none is given, without some names of keypoints.

    Raises InputError for a category or a name that no object has.
    """
    objects = list(objects)
    known = dict.fromkeys(each.category for each in objects)
    names = dict.fromkeys(name for each in objects for name in each.keypoints.names)
    for kind, chosen, present in (("category", categories, known), ("keypoint", left_out, names)):
        for name in chosen:
            if name not in present:
                raise InputError(
                    f"no {kind} is named '{name}'{did_you_mean(name, present)}: there are {', '.join(present)}"
                )
    kept = (each for each in objects if not categories or each.category in categories)
    return [replace(each, keypoints=_without(each.keypoints, left_out)) for each in kept]


def _without(keypoints: Keypoints, left_out: Sequence[str]) -> Keypoints:
    kept = [place for place, name in enumerate(keypoints.names) if name not in left_out]
    names = tuple(keypoints.names[place] for place in kept)
    return Keypoints(names, keypoints.points[kept], keypoints.visibility[kept])
