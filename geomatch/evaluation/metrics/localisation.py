"""CorLoc (Deselaers, Alexe and Ferrari, IJCV 2012): how often the box found in an image is on the object.

Boxes are (left, top, right, bottom) in pixels. All functions are pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from geomatch.annotations import Box
from geomatch.geometry.boxes import box_iou

MIN_IOU = 0.5


@dataclass(frozen=True)
class Localisation:
    """The box found for a label in an image, and the one or more true boxes of that label."""

    label: str
    found: Box
    true: Sequence[Box]


@dataclass(frozen=True)
class LabelCorLoc:
    """CorLoc of one label: the share of its ``photographs`` whose box is correct."""

    photographs: int
    share: float


def is_correct(localisation: Localisation, min_iou: float = MIN_IOU) -> bool:
    """Whether the box found has an IoU of at least ``min_iou`` with one of the true boxes."""
    true = np.asarray(localisation.true, np.float64).reshape(-1, 4)
    found = np.broadcast_to(np.asarray(localisation.found, np.float64), true.shape)
    return bool((box_iou(found, true) >= min_iou).any())


def corloc(localisations: Iterable[Localisation]) -> dict[str, LabelCorLoc]:
    """CorLoc of each label, in alphabetical order."""
    correct: defaultdict[str, list[bool]] = defaultdict(list)
    for localisation in localisations:
        correct[localisation.label].append(is_correct(localisation))
    return {label: LabelCorLoc(len(hits), sum(hits) / len(hits)) for label, hits in sorted(correct.items())}


def mean_corloc(of_labels: dict[str, LabelCorLoc]) -> float:
    """The unweighted mean over labels; NaN without labels."""
    return float(np.mean([label.share for label in of_labels.values()])) if of_labels else float("nan")
