"""Predictions of a matcher that shifts everything by a known vector."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from geomatch.correspondence import Correspondence, FeatureMap, RegionMatches
from geomatch.datasets.pairs import AnnotatedPair, ImageFile
from geomatch.evaluation.prediction import FLOW_SAMPLES, Match, Prediction, PredictionOptions, predict
from geomatch.geometry.grid import Grid
from geomatch.io.flow import FlowField

SOURCE_SIZE, TARGET_SIZE = (60, 80), (70, 90)
SHIFT = (6.0, 4.0)
POINTS = np.array([[10.5, 20.0], [40.25, 30.75], [60.0, 50.0], [20.0, 45.0]])
FORWARD_ONLY = PredictionOptions(backward=False, regions=False)


def features(size: tuple[int, int]) -> FeatureMap:
    return FeatureMap(torch.ones(1, 1, 1), size, Grid.over(size, 1, 1))


def shift(source: FeatureMap, target: FeatureMap) -> Correspondence:
    """By SHIFT; confidence grows with x; back again from the larger image."""
    sign = 1 if source.image_size == SOURCE_SIZE else -1
    height, width = source.image_size
    flow = sign * torch.tensor(SHIFT)[:, None, None].expand(2, height, width)
    confidence = (torch.arange(width) / 100).expand(height, width)
    return Correspondence(
        flow, confidence, torch.ones(height, width, dtype=torch.bool), source.image_size, target.image_size
    )


def make_pair(**changes: object) -> AnnotatedPair:
    images = [ImageFile(Path(name), name) for name in "ab"]
    return replace(AnnotatedPair(*images, "duck", POINTS, POINTS + SHIFT), **changes)


def predicted(pair: AnnotatedPair, options: PredictionOptions = FORWARD_ONLY) -> Prediction:
    return predict(pair, features(SOURCE_SIZE), features(TARGET_SIZE), shift, options)


def square(size: tuple[int, int], left: int, top: int, side: int = 20) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_predict_maps_keypoints_exact_rounded_and_back() -> None:
    found = predicted(make_pair(), PredictionOptions(backward=True, regions=False))
    np.testing.assert_allclose(found.forward, POINTS + SHIFT, atol=1e-4)
    np.testing.assert_allclose(found.rounded, POINTS + SHIFT, atol=1e-4)
    assert found.backward is not None
    np.testing.assert_allclose(found.backward, POINTS, atol=1e-4)
    np.testing.assert_allclose(found.confidence, POINTS[:, 0] / 100, atol=1e-5)
    assert predicted(make_pair()).backward is None


def test_predict_rounded_adds_flow_at_nearest_pixel_to_keypoint() -> None:
    """Proposal Flow's PCK: p + flow(round p), halves rounded up; here the flow is a tenth of x to the right."""

    def stretch(source: FeatureMap, target: FeatureMap) -> Correspondence:
        moved = shift(source, target)
        return replace(moved, flow=torch.stack((torch.arange(80.0).expand(60, 80) / 10, torch.zeros(60, 80))))

    found = predict(make_pair(), features(SOURCE_SIZE), features(TARGET_SIZE), stretch, FORWARD_ONLY)
    np.testing.assert_allclose(found.forward[:, 0], [11.55, 44.275, 66, 22], atol=1e-4)
    np.testing.assert_allclose(found.rounded[:, 0], [10.5 + 1.1, 40.25 + 4.0, 66, 22], atol=1e-4)
    np.testing.assert_allclose(found.rounded[:, 1], POINTS[:, 1], atol=1e-4)


def test_predict_measures_known_flow() -> None:
    """The truth is three pixels off in the left half, far off in the right, and unknown above row 10."""
    truth = np.broadcast_to(np.array(SHIFT, np.float32)[:, None, None], (2, *SOURCE_SIZE)).copy()
    truth[0, :, :40] += 3
    truth[1, :, 40:] += 30
    known = np.ones(SOURCE_SIZE, bool)
    known[:10] = False
    found = predicted(make_pair(flow=lambda: FlowField(truth, known)))
    assert found.measures["flow accuracy"] == pytest.approx(0.5)  # .05 of 90 pixels is 4.5
    assert found.measures["end-point error"] == pytest.approx(16.5)
    assert len(found.sample_errors) == len(found.sample_confidence) == FLOW_SAMPLES
    assert set(found.sample_errors.round(3)) == {3.0, 30.0}
    assert (found.sample_confidence[found.sample_errors > 10] >= 0.4).all()


def test_predict_measures_masks() -> None:
    """The target's square, shifted back, covers the source's but for two columns."""
    masks = square(SOURCE_SIZE, 10, 10), square(TARGET_SIZE, 18, 14)
    found = predicted(make_pair(masks=lambda: masks)).measures
    overlap, union = 18 * 20, 22 * 20
    assert found["mask IoU"] == pytest.approx(overlap / union)
    assert found["LT-ACC"] == pytest.approx(1 - 2 * 2 * 20 / (60 * 80))
    assert found["LOC-ERR"] == pytest.approx(2 / 20)


def test_predict_weighs_parts_by_union() -> None:
    in_source = np.stack((square(SOURCE_SIZE, 10, 10), square(SOURCE_SIZE, 40, 30, side=10)))
    in_target = np.stack((square(TARGET_SIZE, 16, 14), square(TARGET_SIZE, 51, 34, side=10)))
    found = predicted(make_pair(parts=lambda: (in_source, in_target))).measures
    assert found["part IoU"] == pytest.approx((400 + 50) / (400 + 150))


REGIONS = PredictionOptions(backward=False, regions=True)


def test_predict_regions_that_move_with_keypoints() -> None:
    found = predicted(make_pair(), REGIONS)
    assert found.region_ious is not None
    assert len(found.region_ious) > 10
    assert found.region_ious == pytest.approx(1)
    assert found.region_bounds is None, "the windows are moved by the flow, so the target has no boxes"
    wrong = predicted(make_pair(target_points=POINTS + np.array([20, 4])), REGIONS)
    assert wrong.region_ious is not None
    assert 0 < wrong.region_ious.mean() < 0.6
    assert predicted(make_pair()).region_ious is None


def own_boxes(candidates: torch.Tensor | None = None) -> Match:
    """Three boxes on the object go where they should, half a width beside, and nowhere; the fourth is off it."""
    boxes = torch.tensor([[8.0, 18, 28, 38], [32.0, 22, 52, 42], [30.0, 20, 62, 52], [0.0, 0, 79, 59]])
    moved = boxes + torch.tensor([*SHIFT, *SHIFT])
    moved[1] += torch.tensor([10.0, 0, 10, 0])
    own = RegionMatches(boxes, moved, torch.tensor([2.0, 3, 0, 1]), candidates)
    return lambda source, target: replace(shift(source, target), regions=own)


def test_predict_scores_matchers_own_boxes() -> None:
    """Most confident first; valid by the extent of the keypoints, whatever the object's box."""
    pair = make_pair(source_box=(0.0, 0.0, 9.0, 9.0))
    found = predict(pair, features(SOURCE_SIZE), features(TARGET_SIZE), own_boxes(), REGIONS)
    third = 1 / 3  # the IoU of two squares half a side apart
    assert found.region_ious == pytest.approx([third, 1, 0])


def test_predict_regions_count_keypoints_without_partner() -> None:
    """prepKP_PASCAL.m: the extent of all of the source's keypoints, here the whole image; the spline is as before."""
    everywhere = np.vstack((POINTS, [[0.0, 0.0], [79.0, 59.0]]))
    pair = make_pair(source_keypoints=everywhere)
    found = predict(pair, features(SOURCE_SIZE), features(TARGET_SIZE), own_boxes(), REGIONS)
    assert found.region_ious == pytest.approx([1 / 3, 1, 1, 0])


def test_predict_regions_bounded_by_boxes_of_target() -> None:
    """The bound of a box is the best of all of the target's boxes for its true position."""
    candidates = torch.tensor([[14.0, 22, 34, 42], [38.0, 26, 58, 36]])
    found = predict(make_pair(), features(SOURCE_SIZE), features(TARGET_SIZE), own_boxes(candidates), REGIONS)
    assert found.region_bounds == pytest.approx([1 / 2, 1, 20 * 10 / 32**2])


def test_predict_compares_keypoints_with_the_whole_target() -> None:
    """One-hot descriptors: the first keypoint is most similar to its truth, the second to another cell.

    The target's cells are at x = 14.5, 44.5 and 74.5; a box of 300 pixels makes .05 of it 15 and .01 of it 3 pixels.
    """
    source = FeatureMap(torch.eye(3)[:, None], (60, 90), Grid.over((60, 90), 1, 3))
    target = FeatureMap(torch.eye(3)[:, None], (60, 90), Grid.over((60, 90), 1, 3))
    pair = make_pair(
        source_points=np.array([[14.5, 29.5], [44.5, 29.5]]),
        target_points=np.array([[14.5, 29.5], [70.0, 29.5]]),
        hidden_points=np.array([[74.5, 29.5]]),
        target_box=(0.0, 0.0, 300.0, 10.0),
    )
    found = predict(pair, source, target, shift, FORWARD_ONLY)
    assert found.peaks_near is not None
    assert found.peaks_elsewhere is not None
    assert found.peaks_near.tolist() == [[1, 1], [1, 0], [1, 0]], "at .10 the middle cell is near the second, too"
    assert found.peaks_elsewhere.tolist() == [[0, 0, 1], [0, 1, 1], [0, 1, 1]]
    np.testing.assert_allclose(found.hidden_confidence, [0.745], atol=1e-5)
    without_box = predict(replace(pair, target_box=None), source, target, shift, FORWARD_ONLY)
    assert without_box.peaks_near is None
    assert Prediction.from_arrays(found.to_arrays()).peaks_near is not None


def test_prediction_arrays_round_trip() -> None:
    masks = square(SOURCE_SIZE, 10, 10), square(TARGET_SIZE, 18, 14)
    for pair, options in (
        (make_pair(masks=lambda: masks), PredictionOptions(backward=True, regions=True)),
        (make_pair(source_points=np.zeros((0, 2)), target_points=np.zeros((0, 2))), FORWARD_ONLY),
    ):
        before = predicted(pair, options)
        after = Prediction.from_arrays(before.to_arrays())
        assert after.measures == before.measures
        assert (after.source_size, after.target_size) == (before.source_size, before.target_size)
        assert (after.backward is None) == (before.backward is None)
        for name, array in before.to_arrays().items():
            np.testing.assert_array_equal(array, after.to_arrays()[name])
