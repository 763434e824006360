"""Keypoints and boxes from what files say of them: each point by itself, so that one that cannot be read costs no
other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from geomatch.annotations import Box, Keypoints, Visibility
from geomatch.io.parsing import position, whole_number

_WORDS = {
    **dict.fromkeys(("true", "yes", "visible", "seen"), Visibility.seen),
    **dict.fromkeys(("hidden", "occluded"), Visibility.guessed),
    **dict.fromkeys(("false", "no", "absent", "missing"), Visibility.absent),
}


def read_points(
    names: Sequence[str], points: Iterable[tuple[object, object, object]], fault: Callable[[str], None]
) -> Keypoints:
    """The keypoints of one instance, from x, y and visibility of each. Of an absent point the position is not read.

    A point that cannot be read becomes absent, and ``fault`` is told why.
    """
    positions, seen = np.zeros((len(names), 2)), np.zeros(len(names), dtype=np.int64)
    for k, (name, (x, y, stated)) in enumerate(zip(names, points, strict=True)):
        try:
            visibility = read_visibility(stated)
            if visibility is not Visibility.absent:
                positions[k] = position(x), position(y)
            seen[k] = visibility
        except ValueError as error:
            fault(f"keypoint {name!r}: {error}")
    return Keypoints(tuple(names), positions, seen)


def read_visibility(value: object) -> Visibility:
    """COCO's number, or whether the point is there. Raises ValueError if it is anything else."""
    word = str(value).strip().lower()
    if word in _WORDS:
        return _WORDS[word]
    try:
        return Visibility(whole_number(value))
    except ValueError:
        raise ValueError(f"its visibility should be 0, 1 or 2, not {value!r}") from None


def box_between(corner: Sequence[float], opposite: Sequence[float]) -> Box:
    """The box of two opposite corners (x, y), in whichever order they are given."""
    (left, right), (top, bottom) = (sorted(axis) for axis in zip(corner, opposite, strict=True))
    return left, top, right, bottom


def one_of_each(names: Sequence[str]) -> list[list[int]]:
    """Places in a list of names, divided so that no name is twice in a part: its second is in the second part.

    >>> one_of_each(["eye", "nose", "eye"])
    [[0, 1], [2]]
    """
    parts: list[list[int]] = []
    before: Counter[str] = Counter()
    for place, name in enumerate(names):
        if before[name] == len(parts):
            parts.append([])
        parts[before[name]].append(place)
        before[name] += 1
    return parts
