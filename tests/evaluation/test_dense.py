import math

import numpy as np
import pytest

from geomatch.evaluation.metrics.dense import (
    end_point_errors,
    flow_accuracy,
    foreground_box,
    intersection_over_union,
    label_transfer_accuracy,
    localisation_error,
    weighted_part_iou,
)


def random_masks(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < 0.4


def test_end_point_errors_row_by_row() -> None:
    truth = np.zeros((2, 2, 2), np.float32)
    flow = np.array([[[3, 1e9], [0, -5]], [[4, np.nan], [2, 12]]], np.float32)
    errors = end_point_errors(flow, truth, np.array([[True, False], [True, True]]))
    assert errors.dtype == np.float64
    assert errors.tolist() == [5, 2, 13]


def test_end_point_errors_equal_loop() -> None:
    rng = np.random.default_rng(0)
    flow, truth = rng.normal(size=(2, 2, 7, 9))
    known = random_masks(1, 7, 9)
    looped = [math.dist(flow[:, i, j], truth[:, i, j]) for i in range(7) for j in range(9) if known[i, j]]
    assert end_point_errors(flow, truth, known) == pytest.approx(looped)


def test_flow_accuracy_at_five_pixels_of_a_hundred() -> None:
    errors = np.array([0.0, 10.0, 15.0, 15.001])
    assert flow_accuracy(errors, (200, 300), 0.05) == 3 / 4
    assert flow_accuracy(errors, (200, 100), 0.05) == 2 / 4
    assert math.isnan(flow_accuracy(np.zeros(0), (200, 300), 0.05))


def test_flow_accuracy_ignores_common_scale() -> None:
    errors = np.random.default_rng(0).exponential(20, 500)
    scaled = sum(error * 100 / 480 <= 5 for error in errors) / 500
    assert flow_accuracy(errors, (360, 480), 0.05) == scaled
    assert flow_accuracy(errors * 100 / 480, (75, 100), 0.05) == scaled


def test_label_transfer_counts_background() -> None:
    transferred = np.array([[True, True, False], [False, False, False]])
    truth = np.array([[True, False, False], [True, False, False]])
    assert label_transfer_accuracy(transferred, truth) == 4 / 6
    assert intersection_over_union(transferred, truth) == 1 / 3


def test_iou_of_empty_masks_is_nan() -> None:
    empty = np.zeros((3, 4), bool)
    assert math.isnan(intersection_over_union(empty, empty))
    assert intersection_over_union(empty, ~empty) == 0


def test_part_iou_without_common_parts_is_zero() -> None:
    """As in FlowWeb's ``evaluate.m``, whose sum over no part is 0."""
    for count in (0, 2):
        empty = np.zeros((count, 3, 4), bool)
        assert weighted_part_iou(empty, empty) == 0


def test_label_transfer_and_iou_equal_loop() -> None:
    a, b = random_masks(4, 9, 5), random_masks(5, 9, 5)
    pixels = [(bool(a[place]), bool(b[place])) for place in np.ndindex(9, 5)]
    assert label_transfer_accuracy(a, b) == pytest.approx(sum(p == q for p, q in pixels) / 45)
    both, either = sum(p and q for p, q in pixels), sum(p or q for p, q in pixels)
    assert intersection_over_union(a, b) == pytest.approx(both / either)


def test_part_iou_weighs_parts_by_union() -> None:
    """A part of union 4 with IoU 1/2, and one of union 1 that is missed."""
    transferred, truth = np.zeros((2, 2, 3, 3), bool)
    transferred[0, 0, :], truth[0, 0, 1:], truth[0, 1, 0] = True, True, True
    truth[1, 2, 2] = True
    assert weighted_part_iou(transferred, truth) == pytest.approx(4 / 5 * 1 / 2)


def test_part_iou_equals_weighted_sum() -> None:
    transferred, truth = random_masks(6, 5, 6, 7), random_masks(7, 5, 6, 7)
    transferred[3] = truth[3] = False
    unions = [float((a | b).sum()) for a, b in zip(transferred, truth, strict=True)]
    scores = [float((a & b).sum()) / max(u, 1) for a, b, u in zip(transferred, truth, unions, strict=True)]
    looped = sum(union / sum(unions) * score for union, score in zip(unions, scores, strict=True))
    assert weighted_part_iou(transferred, truth) == pytest.approx(looped)


def test_foreground_box_measures_whole_pixels() -> None:
    mask = np.zeros((10, 12), bool)
    mask[3, 5] = mask[7, 4] = True
    assert foreground_box(mask) == (4, 3, 6, 8)
    with pytest.raises(ValueError, match="foreground"):
        foreground_box(np.zeros((2, 2), bool))


def test_localisation_error_is_relative_to_boxes() -> None:
    source, target = np.array([[10.0, 20.0], [15.0, 30.0]]), np.array([[100.0, 100.0], [100.0, 300.0]])
    error = localisation_error(source, target, (10, 20, 20, 40), (100, 100, 200, 500))
    assert error == pytest.approx((0 + 0.5) / 2)
    assert math.isnan(localisation_error(source[:0], target[:0], (10, 20, 20, 40), (100, 100, 200, 500)))


def test_localisation_error_equals_loop_of_dsp() -> None:
    """DSP's ``EvaluateCT101Match``, written out with its 1-based pixels, for whole-pixel flows."""
    rng = np.random.default_rng(8)
    source_mask, target_mask = np.zeros((12, 9), bool), np.zeros((10, 14), bool)
    source_mask[2:9, 3:8] = target_mask[1:5, 2:12] = True
    flow = rng.integers(-6, 9, (2, 12, 9))
    errors, source, target = [], [], []
    for i, j in np.ndindex(12, 9):
        x, y = j + flow[0, i, j], i + flow[1, i, j]
        if 0 <= x < 14 and 0 <= y < 10:
            relative_source = ((j + 1) - 4) / 5, ((i + 1) - 3) / 7
            relative_target = ((x + 1) - 3) / 10, ((y + 1) - 2) / 4
            errors.append(sum(abs(p - q) for p, q in zip(relative_source, relative_target, strict=True)))
            source.append((j, i))
            target.append((x, y))
    assert len(errors) > 20
    error = localisation_error(
        np.array(source, float), np.array(target, float), foreground_box(source_mask), foreground_box(target_mask)
    )
    assert error == pytest.approx(float(np.mean(errors)))
