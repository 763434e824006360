"""The consensus of shapes, on maps of evidence whose truth is known."""

import numpy as np
import torch

from geomatch.annotations import mirror_partners
from geomatch.transfer.references.consensus import ConsensusSettings, Shapes, find_consensus

SHAPE = np.array([[0, 0], [8, 1], [3, 9], [10, 12]], dtype=float)
SETTINGS = ConsensusSettings(hypotheses=40)


def evidence_at(places: np.ndarray[tuple[int, ...], np.dtype[np.float64]], size: tuple[int, int]) -> torch.Tensor:
    """Log-likelihood (K, h, w) with a peak at each place (x, y); none where that is not a number."""
    maps = torch.full((len(places), *size), -4.0)
    for own, (x, y) in zip(maps, places, strict=True):
        if not np.isnan(x):
            own[round(y), round(x)] = 4.0
    return maps


def highest(maps: torch.Tensor) -> list[tuple[int, int]]:
    width = maps.shape[2]
    return [(int(cell) % width, int(cell) // width) for cell in maps.flatten(1).argmax(dim=1)]


def test_keypoint_without_evidence_lies_where_the_shape_puts_it() -> None:
    truth = SHAPE * 1.5 + (6, 4)
    seen = truth.copy()
    seen[3] = np.nan
    found = find_consensus(evidence_at(seen, (30, 32)), Shapes(SHAPE[None], np.ones((1, 4), bool)), SETTINGS)
    assert found is not None
    np.testing.assert_allclose(highest(found.density)[3], truth[3], atol=1)
    assert found.seen.tolist() == [1, 1, 1, 1]


def test_of_two_shapes_the_one_that_agrees_counts() -> None:
    other = SHAPE[:, ::-1] * (1, -1) + (0, 12)
    seen = np.ones((2, 4), bool)
    seen[1, 3] = False  # the other one does not mark the last keypoint
    truth = SHAPE + 5
    found = find_consensus(evidence_at(truth, (24, 24)), Shapes(np.stack((SHAPE, other)), seen), SETTINGS)
    assert found is not None
    np.testing.assert_allclose(highest(found.density), truth, atol=1)
    assert found.seen[3] > 0.9


def test_mirrored_shapes_put_the_other_side_on_the_other_side() -> None:
    names = ("left_eye", "right_eye", "left_paw", "tail")
    partners = mirror_partners([*names, "right_paw"])
    assert partners == [1, 0, 4, 3, 2]
    points = np.array([[[0, 0], [6, 0], [0, 10], [14, 4], [6, 10]]], dtype=float)
    shapes = Shapes(points, np.array([[True, True, True, True, False]])).with_mirrored(partners)
    np.testing.assert_array_equal(shapes.points[1], [[-6, 0], [0, 0], [-6, 10], [-14, 4], [0, 10]])
    assert shapes.seen[1].tolist() == [True, True, False, True, True]


def test_shapes_of_two_points_say_nothing() -> None:
    seen = np.array([[True, True, False, False]])
    assert find_consensus(evidence_at(SHAPE, (16, 16)), Shapes(SHAPE[None], seen), SETTINGS) is None
    one = Shapes(SHAPE[None, :1], np.ones((1, 1), bool))
    assert find_consensus(evidence_at(SHAPE[:1], (16, 16)), one, SETTINGS) is None


def test_consensus_is_the_same_again() -> None:
    evidence = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 20, 20)).astype(np.float32))
    shapes = Shapes(np.stack((SHAPE, SHAPE[::-1])), np.ones((2, 4), bool))
    first, second = (find_consensus(evidence, shapes, SETTINGS) for _ in range(2))
    assert first is not None
    assert second is not None
    assert torch.equal(first.density, second.density)
    assert ((first.density > 0) & (first.density <= 1 + SETTINGS.floor)).all()
