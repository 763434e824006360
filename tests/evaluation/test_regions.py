import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import RBFInterpolator

from geomatch.evaluation.metrics.regions import (
    REGION_THRESHOLDS,
    area_under_curve,
    best_iou,
    mean_in_boxes,
    mean_iou_by_rank,
    pooled_mean_iou,
    probability_of_correct_regions,
)
from geomatch.geometry.boxes import box_iou, valid_boxes, warp_boxes
from geomatch.geometry.thin_plate_spline import ThinPlateSpline


def random_boxes(seed: int, count: int, extent: float = 100) -> np.ndarray:
    corners = np.random.default_rng(seed).uniform(0, extent, (count, 2, 2))
    return np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)


def test_mean_in_boxes_uses_pixel_centres() -> None:
    values = np.random.default_rng(0).random((30, 40))
    boxes = random_boxes(1, 50, extent=45) - 3
    y, x = np.mgrid[:30, :40]
    for (left, top, right, bottom), mean in zip(boxes, mean_in_boxes(values, boxes), strict=True):
        inside = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
        expected = values[inside].mean() if inside.any() else np.nan
        assert mean == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("count", [3, 4, 10, 30])
def test_spline_equals_scipy(count: int) -> None:
    source, target, elsewhere = np.random.default_rng(count).uniform(0, 400, (3, count, 2))
    reference = RBFInterpolator(source, target, kernel="thin_plate_spline")
    spline = ThinPlateSpline.fit(source, target)
    assert spline(source) == pytest.approx(target, abs=1e-6)
    assert spline(elsewhere) == pytest.approx(reference(elsewhere), abs=1e-5)


def test_spline_equals_formula() -> None:
    rng = np.random.default_rng(1)
    source, target = rng.uniform(0, 300, (2, 6, 2))
    spline = ThinPlateSpline.fit(source, target)
    for point in rng.uniform(-50, 350, (5, 2)):
        x, y = (point - spline.centre) / spline.scale
        value = spline.affine[0] + x * spline.affine[1] + y * spline.affine[2]
        for knot, weight in zip(spline.knots, spline.weights, strict=True):
            squared = (x - knot[0]) ** 2 + (y - knot[1]) ** 2
            value = value + weight * squared * math.log(squared)
        assert spline(point[None])[0] == pytest.approx(value)
    assert spline.weights.sum(axis=0) == pytest.approx([0, 0], abs=1e-9)
    assert spline.knots.T @ spline.weights == pytest.approx(np.zeros((2, 2)), abs=1e-9)


def test_spline_through_affine_map_is_affine() -> None:
    source, elsewhere = np.random.default_rng(2).uniform(0, 300, (2, 8, 2))
    matrix, shift = np.array([[-1.2, 0.3], [0.4, 0.7]]), np.array([310.0, -20.0])
    spline = ThinPlateSpline.fit(source, source @ matrix.T + shift)
    assert spline(elsewhere) == pytest.approx(elsewhere @ matrix.T + shift)


def test_spline_of_one_and_two_points() -> None:
    elsewhere = np.array([[100.0, 50.0], [-3.0, 8.0]])
    shift = ThinPlateSpline.fit(np.array([[10.0, 20.0]]), np.array([[15.0, 17.0]]))
    assert shift(elsewhere) == pytest.approx(elsewhere + np.array([5, -3]))
    quarter_turn = ThinPlateSpline.fit(np.array([[0.0, 0.0], [10.0, 0.0]]), np.array([[5.0, 5.0], [5.0, 25.0]]))
    assert quarter_turn(np.array([[0.0, 10.0], [10.0, 10.0]])) == pytest.approx(np.array([[-15.0, 5.0], [-15.0, 25.0]]))


@given(st.integers(3, 12), st.integers(0, 2**32 - 1))
def test_spline_of_collinear_points(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=2)
    direction /= np.linalg.norm(direction)
    along = np.cumsum(rng.uniform(2, 50, count))
    source, target = along[:, None] * direction + rng.uniform(0, 100, 2), rng.uniform(0, 300, (count, 2))
    spline = ThinPlateSpline.fit(source, target)
    assert spline(source) == pytest.approx(target, abs=1e-5)
    across = np.array([-direction[1], direction[0]])
    equations = [[[x, -y, 1, 0], [y, x, 0, 1]] for x, y in source]
    a, b, *_ = np.linalg.lstsq(np.array(equations).reshape(-1, 4), target.ravel())[0]
    step = (spline(source + 7 * across) - spline(source - 7 * across)) / 14
    assert step == pytest.approx(np.tile([a * across[0] - b * across[1], b * across[0] + a * across[1]], (count, 1)))


def test_spline_of_coinciding_points() -> None:
    source = np.array([[0.0, 0.0], [0.0, 0.0], [90.0, 0.0], [0.0, 80.0], [70.0, 70.0]])
    target = np.array([[1.0, 4.0], [3.0, 8.0], [95.0, 5.0], [5.0, 70.0], [60.0, 80.0]])
    mapped = ThinPlateSpline.fit(source, target)(source)
    assert mapped[:2] == pytest.approx(np.array([[2.0, 6.0], [2.0, 6.0]]))
    assert mapped[2:] == pytest.approx(target[2:])
    same = ThinPlateSpline.fit(np.full((2, 2), 5.0), target[:2])
    assert same(np.array([[5.0, 5.0], [6.0, 7.0]])) == pytest.approx(np.array([[2.0, 6.0], [3.0, 8.0]]))


def test_spline_without_points_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        ThinPlateSpline.fit(np.zeros((0, 2)), np.zeros((0, 2)))


def test_valid_boxes_on_object_with_keypoint() -> None:
    boxes = np.array(
        [
            [0.0, 0, 41, 10],  # a little more than three quarters inside
            [0.0, 0, 40, 10],  # three quarters
            [20.0, 0, 24, 10],  # inside, without a keypoint
            [10.0, 3, 12, 8],  # a keypoint on its corner
            [25.0, 5, 25, 5],  # no area
        ]
    )
    points = np.array([[12.0, 8.0], [25.0, 5.0], [39.0, 9.0]])
    assert valid_boxes(boxes, (10, 0, 60, 50), points).tolist() == [True, False, False, True, False]
    assert not valid_boxes(boxes, (10, 0, 60, 50), points[:0]).any()


def test_valid_boxes_equal_loop() -> None:
    boxes, object_box = random_boxes(0, 300), (15.0, 10.0, 80.0, 90.0)
    points = np.random.default_rng(2).uniform(0, 100, (3, 2))
    looped = []
    for left, top, right, bottom in boxes:
        across = max(0, min(right, object_box[2]) - max(left, object_box[0]))
        down = max(0, min(bottom, object_box[3]) - max(top, object_box[1]))
        inside = across * down / ((right - left) * (bottom - top)) > 0.75  # crop_active_boxset.m
        looped.append(inside and any(left <= x <= right and top <= y <= bottom for x, y in points))
    assert 10 < sum(looped) < 290
    assert valid_boxes(boxes, object_box, points).tolist() == looped


def test_warp_boxes_average_outermost_corners() -> None:
    """A shear by half the height, and a mirror image, which swaps left and right."""
    boxes = np.array([[0.0, 0.0, 10.0, 20.0]])
    sheared = warp_boxes(boxes, lambda points: points + points[:, 1:] * (0.5, 0))
    assert sheared.tolist() == [[5, 0, 15, 20]]
    assert warp_boxes(boxes, lambda points: (100, 7) - points * (1, 0.5)).tolist() == [[90, -3, 100, 7]]


def test_warp_boxes_equal_loop() -> None:
    boxes = random_boxes(3, 40)
    source, target = np.random.default_rng(4).uniform(0, 100, (2, 7, 2))
    spline = ThinPlateSpline.fit(source, target)
    for box, warped in zip(boxes, warp_boxes(boxes, spline), strict=True):
        corners = [spline(np.array([[x, y]]))[0] for x in box[::2] for y in box[1::2]]
        xs, ys = (sorted(values) for values in zip(*corners, strict=True))
        expected = [(xs[0] + xs[1]) / 2, (ys[0] + ys[1]) / 2, (xs[2] + xs[3]) / 2, (ys[2] + ys[3]) / 2]
        assert warped == pytest.approx(expected)


def test_box_iou_by_hand() -> None:
    first = np.array([[0.0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 4, 4], [1, 1, 1, 1]])
    second = np.array([[2.0, 0, 6, 4], [0, 0, 4, 4], [4, 0, 8, 4], [1, 1, 1, 1]])
    assert box_iou(first, second) == pytest.approx([8 / 24, 1, 0, 0])


def test_box_iou_equals_count_of_cells() -> None:
    first, second = np.round(random_boxes(5, 30, 20)), np.round(random_boxes(6, 30, 20))
    for a, b, iou in zip(first, second, box_iou(first, second), strict=True):
        cells = [
            [left <= x < right and top <= y < bottom for left, top, right, bottom in (a, b)]
            for x, y in np.ndindex(20, 20)
        ]
        either = sum(any(cell) for cell in cells)
        assert iou == pytest.approx(sum(all(cell) for cell in cells) / either if either else 0)


def test_pcr_is_strict() -> None:
    shares = probability_of_correct_regions(np.array([1.0, 0.5, 0.75, 0.0]), (0, 0.25, 0.3, 0.5, 0.51, 1, 1.1))
    assert shares.tolist() == [0, 0.25, 0.5, 0.5, 0.75, 0.75, 1]


def test_pcr_equals_count() -> None:
    ious = np.random.default_rng(7).integers(0, 101, 150) / 100
    counted = [sum(1 - iou < tau for iou in ious) / 150 for tau in REGION_THRESHOLDS]
    assert probability_of_correct_regions(ious).tolist() == counted


def test_pcr_without_regions_is_zero() -> None:
    """eva_PCR_mIoU_SCNet_A.m leaves such a pair's row of zeros in the mean."""
    assert probability_of_correct_regions(np.zeros(0)).tolist() == [0.0] * 101


def ranked_ious(seed: int, pairs: int, ranks: int) -> np.ndarray:
    """The IoU of regions by rank, (pairs, ranks), NaN beyond the regions of a pair; one pair has none."""
    rng = np.random.default_rng(seed)
    ranked = rng.random((pairs, ranks))
    for row, count in zip(ranked, [0, *rng.integers(1, ranks + 1, pairs - 1)], strict=True):
        row[count:] = np.nan
    return ranked


def test_mean_iou_at_k_by_hand() -> None:
    """Two pairs of three and one region, k to 3."""
    ranked = np.array([[0.9, 0.6, 0.3], [0.5, np.nan, np.nan]])
    pooled, by_rank = pooled_mean_iou(ranked), mean_iou_by_rank(ranked)
    assert pooled.ratios() == pytest.approx([1.4 / 2, 2.0 / 3, 2.3 / 4])
    assert pooled.ratios() @ pooled.weights == pytest.approx((0.7 / 2 + 2 / 3 + 0.575 / 2) / 2)
    assert by_rank.ratios() == pytest.approx([0.7, 0.6, 0.3])
    assert by_rank.ratios() @ by_rank.weights == pytest.approx(0.7 / 2 + 1.3 / 2 + 1.6 / 3 / 2)


def test_pooled_mean_iou_equals_released_loop() -> None:
    """eva_PCR_mIoU_SCNet_A.m: the mean of all entries > -1 in the first k columns of miou_all."""
    ranked = ranked_ious(0, 7, 100)
    miou_all = np.where(np.isfinite(ranked), ranked, -1)
    looped = [miou_all[:, :k][miou_all[:, :k] > -1].mean() for k in range(1, 101)]
    found = pooled_mean_iou(ranked)
    assert found.ratios() == pytest.approx(looped)
    assert found.ratios() @ found.weights == pytest.approx(area_under_curve(range(1, 101), looped))


def test_mean_iou_by_rank_equals_released_loop() -> None:
    """eva_PASCAL.m and eva_avg_PASCAL.m: histo_mIoU over val_count, NaN as 0, trapz of cumsum / k."""
    ranked = ranked_ious(1, 5, 100)
    ranked[:, 90:] = np.nan
    histogram, count = np.zeros(100), np.zeros(100)
    for row in ranked:
        distances = [1 - iou for iou in row if np.isfinite(iou)]
        for rank, distance in enumerate([*distances, *[1.0] * (100 - len(distances))]):
            histogram[rank] += 1 - distance
        count[: len(distances)] += 1
    histogram = np.array([0 if n == 0 else total / n for total, n in zip(histogram, count, strict=True)])
    curve = np.cumsum(histogram) / np.arange(1, 101)
    found = mean_iou_by_rank(ranked)
    assert found.ratios() == pytest.approx(histogram)
    assert found.ratios() @ found.weights == pytest.approx(np.trapezoid(curve, np.arange(1, 101)))
    perfect = mean_iou_by_rank(np.ones((3, 100)))
    assert perfect.ratios() @ perfect.weights == pytest.approx(99)


def test_best_iou_equals_loop() -> None:
    boxes, candidates = random_boxes(10, 20), random_boxes(11, 30)
    looped = [max(box_iou(box[None], other[None])[0] for other in candidates) for box in boxes]
    assert best_iou(boxes, candidates) == pytest.approx(looped)
    assert best_iou(boxes, candidates[:0]).tolist() == [0.0] * 20


def test_area_under_curve_by_trapezoids() -> None:
    assert area_under_curve([0, 1, 3], [0, 2, 4]) == pytest.approx((1 + 6) / 3)
    assert area_under_curve([1, 2, 100], [0.3, 0.3, 0.3]) == pytest.approx(0.3)
    x, y = np.sort(np.random.default_rng(8).random(50)), np.random.default_rng(9).random(50)
    looped = sum((x[k + 1] - x[k]) * (y[k] + y[k + 1]) / 2 for k in range(49))
    assert area_under_curve(x, y) == pytest.approx(looped / (x[-1] - x[0]))
