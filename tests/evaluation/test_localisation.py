"""CorLoc on cases worked by hand."""

import math

from geomatch.evaluation.metrics.localisation import LabelCorLoc, Localisation, corloc, is_correct, mean_corloc


def test_is_correct_at_exactly_half_iou() -> None:
    # 10 x 10 in 10 x 20: IoU = 100 / 200. Two 10 x 10 shifted by 3 and by 4: 70 / 130 and 60 / 140.
    assert is_correct(Localisation("cat", (0, 0, 10, 10), [(0, 0, 10, 20)]))
    assert not is_correct(Localisation("cat", (0, 0, 10, 10), [(0, 0, 10, 20.1)]))
    assert is_correct(Localisation("cat", (3, 0, 13, 10), [(0, 0, 10, 10)]))
    assert not is_correct(Localisation("cat", (4, 0, 14, 10), [(0, 0, 10, 10)]))


def test_is_correct_needs_one_true_box() -> None:
    left, right = (0.0, 0.0, 10.0, 10.0), (30.0, 0.0, 40.0, 10.0)
    assert is_correct(Localisation("cat", (31, 0, 41, 10), [left, right]))
    assert not is_correct(Localisation("cat", (0, 0, 40, 10), [left, right]))


def test_corloc_counts_labels_apart_and_weighs_them_equally() -> None:
    box = (0.0, 0.0, 10.0, 10.0)
    away = (50.0, 50.0, 60.0, 60.0)
    found = [
        Localisation("dog", box, [box]),
        Localisation("cat", box, [box]),
        Localisation("cat", away, [box]),
        Localisation("cat", away, [box, (90.0, 90.0, 99.0, 99.0)]),
        Localisation("cat", away, [box]),
    ]
    of_labels = corloc(found)
    assert of_labels == {"cat": LabelCorLoc(4, 0.25), "dog": LabelCorLoc(1, 1.0)}
    assert list(of_labels) == ["cat", "dog"]
    assert mean_corloc(of_labels) == 0.625


def test_mean_corloc_without_labels_is_nan() -> None:
    assert corloc([]) == {}
    assert math.isnan(mean_corloc({}))
