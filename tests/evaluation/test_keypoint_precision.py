"""KAP against the released code of Spherical Maps, written out keypoint by keypoint."""

import numpy as np
import pytest

from geomatch.evaluation.metrics.keypoint_precision import (
    KAP_ALPHAS,
    keypoint_average_precision,
    similarity_peaks,
)

CELLS = np.array([(x, y) for y in (5.0, 15.0, 25.0) for x in (5.0, 15.0, 25.0, 35.0)])


def peaks_of_authors(similarity: np.ndarray, targets: list[tuple[float, float] | None], length: float) -> list:
    """``compute_score`` of ``pck_spair_pascal_sphere.py`` with metric mAP: for each alpha, predictions and labels."""
    scaled = (similarity - similarity.min()) / (similarity.max() - similarity.min())
    examples = []
    for alpha in KAP_ALPHAS:
        predictions, labels = [], []
        for row, target in zip(scaled, targets, strict=True):
            if target is None:
                predictions.append(max(row))
                labels.append(0)
                continue
            distances = [((x - target[0]) ** 2 + (y - target[1]) ** 2) ** 0.5 for x, y in CELLS]
            near = [distance < alpha * length or distance == min(distances) for distance in distances]
            predictions.append(max(value for value, inside in zip(row, near, strict=True) if inside))
            predictions.append(max(value for value, inside in zip(row, near, strict=True) if not inside))
            labels += [1, 0]
        examples.append((predictions, labels))
    return examples


def average_precision_of_sklearn(predictions: list[float], labels: list[int]) -> float:
    """The sum over thresholds of precision times the growth of recall."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(predictions), reverse=True):
        kept = [label for value, label in zip(predictions, labels, strict=True) if value >= threshold]
        recall = sum(kept) / sum(labels)
        total += (recall - before) * sum(kept) / len(kept)
        before = recall
    return total


@pytest.mark.parametrize("length", [40.0, 150.0])
def test_peaks_and_precision_are_those_of_the_authors(length: float) -> None:
    """At a length of 150 pixels several cells are near; at 40 and .01 only the nearest one."""
    chance = np.random.default_rng(3)
    similarity = chance.random((6, len(CELLS))).astype(np.float32)
    shared = [(6.0, 7.0), (33.0, 16.0), (20.2, 24.0), (1.0, 29.0)]
    near, elsewhere = similarity_peaks(similarity, CELLS, np.array(shared), length)
    for row, (predictions, labels) in enumerate(peaks_of_authors(similarity, [*shared, None, None], length)):
        positive = np.array(labels) == 1
        np.testing.assert_allclose(near[row], np.array(predictions)[positive])
        np.testing.assert_allclose(elsewhere[row], np.array(predictions)[~positive])
        expected = average_precision_of_sklearn(predictions, labels)
        assert keypoint_average_precision(near[row], elsewhere[row]) == pytest.approx(expected)


def test_nothing_elsewhere_counts_as_least_similar() -> None:
    """All cells are near; a constant similarity is not divided by zero."""
    near, elsewhere = similarity_peaks(np.ones((1, 12)), CELLS, np.array([[20.0, 15.0]]), 1000.0, (1.0,))
    assert (near.tolist(), elsewhere.tolist()) == ([[0.0]], [[0.0]])


def test_only_hidden_keypoints_have_no_precision() -> None:
    near, elsewhere = similarity_peaks(np.eye(2, 12), CELLS, np.zeros((0, 2)), 100.0)
    assert near.shape == (3, 0)
    assert elsewhere.tolist() == [[1.0, 1.0]] * 3
    assert np.isnan(keypoint_average_precision(near[0], elsewhere[0]))
