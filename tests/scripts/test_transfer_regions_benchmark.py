"""`benchmarks/accuracy/transfer_regions.py`, which measures transferred masks and boxes."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from geomatch.annotations import Region
from geomatch.correspondence import FeatureMap
from geomatch.geometry.grid import Grid
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks" / "accuracy"))
from transfer import Animal
from transfer_regions import Photograph, Score, columns, score, unmatched

SIZE, TWICE = (60, 80), (120, 160)
FACE = {"0": (20, 20), "1": (40, 20), "2": (30, 40), "3": (15, 10), "4": (45, 10)}
BODY = {str(5 + place): (20 + 4 * place, 50) for place in range(9)}


def photograph(points: dict[str, tuple[int, int]], scale: int = 1) -> Photograph:
    size = (scale * SIZE[0], scale * SIZE[1])
    features = FeatureMap(torch.ones(1, 1, 1), size, Grid.over(size, 1, 1))
    left, top, right, bottom = (scale * (side + 0.5) - 0.5 for side in (10, 5, 70, 55))
    places = {name: scale * (np.array(place) + 0.5) - 0.5 for name, place in points.items()}
    return Photograph(Animal(Path("nowhere"), "cat", (left, top, right, bottom), places), features)


@pytest.mark.parametrize(
    ("points", "regions"),
    [({}, {"box"}), (FACE, {"box", "head"}), (FACE | BODY, {"box", "head", "animal"}), (BODY, {"box"})],
)
def test_regions_need_their_keypoints(points: dict[str, tuple[int, int]], regions: set[str]) -> None:
    assert photograph(points).regions.keys() == regions


def test_unmatched_keeps_relative_places() -> None:
    flow = unmatched(SIZE, TWICE)
    corners = np.array([[-0.5, -0.5], [79.5, 59.5], [39.5, 29.5]])
    inside = corners.clip(0, (79, 59))
    np.testing.assert_allclose(flow.map_points(inside).positions, 2 * (inside + 0.5) - 0.5)
    assert flow.valid.all()


def test_score_of_same_shape_at_same_place() -> None:
    """A reference twice as large, pasted: each region is found again, and as good as a match that moves nothing."""
    target, reference = photograph(FACE | BODY), photograph(FACE | BODY, scale=2)
    scores = score(target, [(reference, unmatched(SIZE, TWICE))])
    assert scores.keys() == {"box", "head", "animal"}
    for each in scores.values():
        assert each.iou == each.pasted > 0.93
        assert 0.8 < each.confidence <= 1
    head = target.regions["head"]
    assert isinstance(head, Region)
    assert scores["head"].whole == pytest.approx(head.mask.mean())
    assert scores["box"].whole == pytest.approx(60 * 50 / (60 * 80))


def test_score_leaves_out_what_a_reference_lacks() -> None:
    target, reference = photograph(FACE | BODY), photograph(FACE)
    assert score(target, [(reference, unmatched(SIZE, SIZE))]).keys() == {"box", "head"}


def test_columns_of_more_confident_half() -> None:
    scores = [Score(iou=0.2 * place, pasted=0, whole=0.1, confidence=place / 4) for place in range(4)]
    assert columns([replace(each, pasted=0.5) for each in scores]) == ["4", "0.300", "0.250", "0.500", "0.500", "0.100"]
