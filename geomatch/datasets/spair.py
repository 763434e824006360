"""SPair-71k (Min et al., 2019) and whatever else comes in its layout, such as animal-parts with a class a side."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from geomatch.datasets.pairs import AnnotatedPair, PairDataset
from geomatch.errors import InputError


def load_spair(root: Path, *, name: str = "spair-71k", split: str = "val") -> PairDataset:
    """Read ``PairAnnotation/<split>/*.json`` and find the images under ``JPEGImages/<category>/``.

    Raises InputError naming what is missing or malformed.
    """
    folder = root / "PairAnnotation" / split
    files = sorted(folder.glob("*.json"))
    if not files:
        raise InputError(f"{folder}: no pair annotations here; --root should hold PairAnnotation and JPEGImages")
    return PairDataset(name, split, [_read_pair(root, file) for file in files])


def _read_pair(root: Path, file: Path) -> AnnotatedPair:
    try:
        entry = json.loads(file.read_text(encoding="utf-8"))
        category: str = entry["category"]
        source = root / "JPEGImages" / entry.get("src_category", category) / entry["src_imname"]
        target = root / "JPEGImages" / entry.get("trg_category", category) / entry["trg_imname"]
        points = [np.array(entry[key], dtype=np.float64).reshape(-1, 2) for key in ("src_kps", "trg_kps")]
        left, top, right, bottom = map(float, entry["trg_bndbox"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: not a pair annotation of SPair's ({error!r})") from error
    if len(points[0]) != len(points[1]):
        raise InputError(f"{file}: {len(points[0])} source keypoints but {len(points[1])} target keypoints")
    for image in (source, target):
        if not image.is_file():
            raise InputError(f"{image}: missing, though it is annotated in {file.name}")
    return AnnotatedPair(source, target, points[0], points[1], category, (left, top, right, bottom))
