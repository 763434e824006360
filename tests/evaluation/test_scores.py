from pathlib import Path

import numpy as np
import pytest

from geomatch.datasets.pairs import AnnotatedPair
from geomatch.evaluation.metrics import correct_keypoints, keypoint_extent
from geomatch.evaluation.protocols import HOUSE, Average, Protocol, ThresholdLength
from geomatch.evaluation.runner import PairScore, summarise


def test_a_keypoint_on_the_threshold_is_correct() -> None:
    truth = np.zeros((3, 2))
    predicted = np.array([[3.0, 4.0], [3.0, 4.01], [0.0, 0.0]])
    assert correct_keypoints(predicted, truth, length=50, alpha=0.1).tolist() == [True, False, True]


def test_the_extent_is_the_longer_side_of_the_keypoints_box() -> None:
    assert keypoint_extent(np.array([[10.0, 5], [40, 25], [20, 8]])) == 30


def test_thresholds_come_from_each_pair_s_own_target() -> None:
    points = np.array([[0.0, 0.0], [10.0, 4.0]])
    pair = AnnotatedPair(Path("a"), Path("b"), points * 7, points, "duck", target_box=(5, 5, 25, 95))
    assert HOUSE["pf-willow"].length(pair) == 10
    assert HOUSE["spair-71k"].length(pair) == 90


def test_pairs_weigh_the_same_per_image_and_keypoints_the_same_per_point() -> None:
    protocol = Protocol("test", ThresholdLength.keypoint_extent, (Average.per_image, Average.per_point), alphas=(0.1,))
    scores = [
        PairScore("cat", np.array([[True]])),
        PairScore("cat", np.array([[False, False, True]])),
        PairScore("dog", np.array([[True, True]])),
    ]
    per_image, per_point = summarise(scores, protocol)
    assert per_image.pck == pytest.approx((1 + 1 / 3 + 1) / 3)
    assert per_point.pck == pytest.approx(4 / 6)
    assert per_image.per_class["cat"].pck == pytest.approx(2 / 3)
    assert per_point.per_class["cat"].pck == pytest.approx(2 / 4)
    assert {name: score.pairs for name, score in per_image.per_class.items()} == {"cat": 2, "dog": 1}
