from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from geomatch.datasets.pairs import AnnotatedPair, ImageFile
from geomatch.evaluation.prediction import Prediction
from geomatch.evaluation.protocols import Average, Length, Protocol, default_protocol
from geomatch.evaluation.scoreboard import Scoreboard

CORNERS = np.array([[0.0, 0.0], [100.0, 0.0], [100.0, 50.0], [0.0, 50.0]])


def make_board(*found: tuple[str, str | None, list[bool]], dataset: str = "pf-willow") -> Scoreboard:
    """Pairs of a category and a group, with which of their keypoints are found; the others are 50 pixels off."""
    pairs = []
    for index, (category, group, right) in enumerate(found):
        images = (ImageFile(Path(name), f"{index}{name}") for name in "ab")
        points = CORNERS[: len(right)]
        pairs.append(AnnotatedPair(*images, category, points, points, (0, 0, 100, 50), (0, 0, 100, 50), group))
    averages = (Average.per_image, Average.per_point, Average.per_class)
    board = Scoreboard(dataset, pairs, [Protocol("test", Length.image, averages=averages, alphas=(0.1,))])
    for pair, (*_, right) in zip(pairs, found, strict=True):
        predicted = pair.target_points + np.where(right, 0.0, 50.0)[:, None] * [1, 0]
        board.add(Prediction((100, 200), (100, 200), predicted, predicted, np.where(right, 0.9, 0.2)))
    return board


BOARD = (
    ("cat", "within", [True, True]),
    ("cat", "within", [False, False, True, False]),
    ("dog", "across", [True, False]),
)


def test_results_weights_of_averages() -> None:
    per_image, per_point, per_class = make_board(*BOARD).results()
    assert per_image.pck == pytest.approx((1 + 1 / 4 + 1 / 2) / 3)
    assert per_point.pck == pytest.approx(4 / 8)
    assert per_class.pck == pytest.approx(((1 + 1 / 4) / 2 + 1 / 2) / 2)
    assert per_image.per_class["cat"].pck == pytest.approx(5 / 8)
    assert per_point.per_class["cat"].pck == pytest.approx(3 / 6)
    assert [result.interval[0] <= result.pck <= result.interval[1] for result in (per_image, per_point, per_class)]


def test_results_include_groups() -> None:
    per_image = make_board(*BOARD).results()[0]
    assert {name: score.pairs for name, score in per_image.per_class.items()} == {
        "cat": 2,
        "dog": 1,
        "within": 2,
        "across": 1,
    }
    assert per_image.per_class["across"].pck == 0.5


def test_results_include_sides_if_pairs_differ_in_them() -> None:
    one_side = make_board(*BOARD, ("cat", None, [True, True, False]))
    assert "same side" not in one_side.results()[0].per_class
    pairs = [replace(one_side.pairs[1], target_points=CORNERS * [-1, 1]), *one_side.pairs]
    board = Scoreboard("pf-willow", pairs, one_side.protocols)
    for pair in pairs:
        found = pair.target_points
        board.add(Prediction((100, 200), (100, 200), found, found, np.ones(len(found))))
    assert {name: score.pairs for name, score in board.results()[0].per_class.items() if "side" in name} == {
        "same side": 2,  # two of the pairs have only two keypoints
        "opposite sides": 1,
    }


def make_varied_board() -> Scoreboard:
    """Three pairs of cats: two hard and one easy in scale, all of one viewpoint; two have geometry-aware points."""
    board = make_board(*BOARD)
    variations = (("viewpoint: easy", "scale: hard"), ("viewpoint: easy", "scale: easy"), ("scale: hard",))
    aware = (np.array([True, False]), np.array([True, False, True, True]), None)
    pairs = [
        replace(pair, variations=kinds, geometry_aware=which)
        for pair, kinds, which in zip(board.pairs, variations, aware, strict=True)
    ]
    varied = Scoreboard("pf-willow", pairs, board.protocols)
    for pair, (*_, right) in zip(pairs, BOARD, strict=True):
        found = pair.target_points + np.where(right, 0.0, 50.0)[:, None] * [1, 0]
        varied.add(Prediction((100, 200), (100, 200), found, found, np.ones(len(right))))
    return varied


def test_results_break_down_by_what_differs() -> None:
    """A kind of variation that is the same everywhere says nothing; easy comes before hard."""
    per_image, per_point, _ = make_varied_board().results()
    assert list(per_image.breakdown) == ["scale: easy", "scale: hard", "geometry-aware points"]
    assert [score.pairs for score in per_image.breakdown.values()] == [1, 2, 2]
    assert per_image.breakdown["scale: hard"].pck == pytest.approx((1 + 1 / 2) / 2)
    assert per_point.breakdown["scale: hard"].pck == pytest.approx(3 / 4)


def test_results_of_geometry_aware_points_alone() -> None:
    """Of the first pair one such point of one is found, of the second one of three; the third has none."""
    per_image, per_point, _ = make_varied_board().results()
    assert per_image.breakdown["geometry-aware points"].pck == pytest.approx((1 + 1 / 3) / 2)
    assert per_point.breakdown["geometry-aware points"].pck == pytest.approx(2 / 4)
    low, high = per_point.breakdown["geometry-aware points"].interval
    assert low <= 2 / 4 <= high


def test_results_without_difficulty_have_no_breakdown() -> None:
    assert [result.breakdown for result in make_board(*BOARD).results()] == [{}, {}, {}]


def test_results_pool_the_points_of_a_class() -> None:
    """By hand: three of six points of cats, one of two of the dog."""
    board = make_board(*BOARD, ("dog", None, [True, True, True, False]))
    pooled = Protocol("pooled", Length.image, averages=(Average.per_class_pooled,), alphas=(0.1,))
    again = Scoreboard("pf-willow", board.pairs, [pooled])
    for pair, found in zip(board.pairs, board.forward, strict=True):
        again.add(Prediction((100, 200), (100, 200), found, found, np.ones(len(pair.source_points))))
    (result,) = again.results()
    assert result.pck == pytest.approx((3 / 6 + 4 / 6) / 2)
    assert result.interval[0] <= result.pck <= result.interval[1]


def test_kap_pools_keypoints_within_a_class() -> None:
    """By hand, of two pairs of cats: similarities .9 and .4 near the truth, .5, .1 and .6 elsewhere."""
    images = [ImageFile(Path(name), name) for name in "ab"]
    pairs = [AnnotatedPair(*images, category, CORNERS, CORNERS) for category in ("cat", "cat", "dog", "cow")]
    board = Scoreboard("pf-willow", pairs, [default_protocol("pf-willow")])
    peaks = (([0.9], [0.5, 0.1]), ([0.4], [0.6]), ([0.7], [0.2]), None)
    for pair, known in zip(pairs, peaks, strict=True):
        found = Prediction((100, 200), (100, 200), pair.target_points, pair.target_points, np.ones(4))
        if known is not None:
            near, elsewhere = (np.tile(values, (3, 1)) for values in known)
            found = replace(found, peaks_near=near, peaks_elsewhere=elsewhere)
        board.add(found)
    measures = {measure.name: measure for measure in board.measures()}
    cats = (1 / 1 + 2 / 4) / 2
    assert measures["KAP@0.10"].per_class["cat"].value == pytest.approx(cats)
    assert measures["KAP@0.10"].per_class["cat"].pairs == 2
    assert set(measures["KAP@0.10"].per_class) == {"cat", "dog"}
    assert measures["KAP@0.01"].value == pytest.approx((cats + 1) / 2)
    assert measures["KAP@0.01"].interval is None


def test_results_ignore_pairs_without_keypoints() -> None:
    per_image = make_board(*BOARD, ("cow", None, [])).results()[0]
    assert per_image.pck == pytest.approx((1 + 1 / 4 + 1 / 2) / 3)
    assert "cow" not in per_image.per_class


def test_ause_of_perfect_ranking_is_zero() -> None:
    board = make_board(*BOARD)
    measures = {measure.name: measure for measure in board.measures()}
    assert measures["AUSE"].value == pytest.approx(0)
    assert measures["confident half"].value == pytest.approx(1)
    assert measures["ECE"].value == pytest.approx((0.1 + 0.2) / 2)
    assert measures["end-point error"].value == pytest.approx((0 + 37.5 + 25) / 3)
    assert measures["end-point error"].per_pair == pytest.approx([0, 37.5, 25])
    assert measures["end-point error"].better == "lower"


def test_curves_agree_with_scores() -> None:
    board = make_board(*BOARD)
    curves = {curve.name: curve for curve in board.curves()}
    assert curves["pck"].y[curves["pck"].x.index(0.1)] == pytest.approx(board.results()[0].pck)
    assert curves["pck"].y == sorted(curves["pck"].y)
    assert curves["sparsification"].y == pytest.approx(curves["sparsification"].reference)
    assert curves["calibration"].x == pytest.approx([0.2, 0.9])
    assert curves["calibration"].y == pytest.approx([0, 1])


def region_board(*ious: tuple[str, list[float]]) -> Scoreboard:
    """Pairs of a category and the IoU of their regions, most confident first; half of it is the bound."""
    images = [ImageFile(Path(name), name) for name in "ab"]
    pairs = [AnnotatedPair(*images, category, CORNERS, CORNERS) for category, _ in ious]
    board = Scoreboard("pf-willow", pairs, [default_protocol("pf-willow")])
    for _, values in ious:
        found = Prediction((100, 200), (100, 200), CORNERS, CORNERS, np.ones(4))
        board.add(replace(found, region_ious=np.array(values), region_bounds=np.array(values) / 2))
    return board


def test_region_measures_of_scnet_and_proposal_flow() -> None:
    """By hand: a car with two regions, another with none, which counts 0 in PCR, and a duck with one."""
    board = region_board(("car", [0.8, 0.4]), ("car", []), ("duck", [0.6]))
    measures = {measure.name: measure for measure in board.measures()}

    def area(iou: float) -> float:
        """Of the share of 1 - IoU < tau for one region: steps at .01 by trapezoids."""
        return sum((1 - iou < tau / 100) + (1 - iou < (tau + 1) / 100) for tau in range(100)) / 200

    pcr = [(area(0.8) + area(0.4)) / 2, 0, area(0.6)]
    assert measures["PCR AuC"].per_pair == pytest.approx(pcr)
    assert measures["PCR AuC"].value == pytest.approx(sum(pcr) / 3)
    bound = [(area(0.4) + area(0.2)) / 2, 0, area(0.3)]
    assert measures["PCR AuC, upper bound"].per_pair == pytest.approx(bound)
    pooled = [1.4 / 2, *[1.8 / 3] * 99]
    assert measures["mIoU@k AuC, SCNet"].value == pytest.approx(np.trapezoid(pooled) / 99)
    car, duck = (np.cumsum(each + [0.0] * (100 - len(each))) / np.arange(1, 101) for each in ([0.8, 0.4], [0.6]))
    assert measures["mIoU@k AuC, PF"].value == pytest.approx((np.trapezoid(car) + np.trapezoid(duck)) / 2)
    assert measures["mIoU@k AuC, PF"].per_class["duck"].value == pytest.approx(np.trapezoid(duck))
    assert measures["mIoU@k AuC, PF"].unit == "ranks"
    curves = {curve.name: curve for curve in board.curves()}
    assert curves["miou"].y == pytest.approx(pooled)
    assert curves["pcr"].y[-1] == pytest.approx(2 / 3)
    for name in ("SCNet", "PF"):
        low, high = measures[f"mIoU@k AuC, {name}"].interval
        assert low <= measures[f"mIoU@k AuC, {name}"].value <= high


def test_region_measures_are_absent_without_regions() -> None:
    assert not [each.name for each in make_board(*BOARD).measures() if "PCR" in each.name or "mIoU" in each.name]


def test_measures_average_over_pairs_that_have_them() -> None:
    images = [ImageFile(Path(name), name) for name in "ab"]
    pairs = [AnnotatedPair(*images, category) for category in ("car", "car", "dog")]
    board = Scoreboard("tss", pairs, [default_protocol("tss")])
    nothing = np.zeros((0, 2))
    for value in (0.5, float("nan"), 1.0):
        measures = {"flow accuracy": value}
        errors, confidence = np.array([1.0, 30.0]), np.array([0.9, 0.3])
        board.add(Prediction((100, 200), (100, 200), nothing, nothing, np.zeros(0), None, errors, confidence, measures))
    assert board.results() == []
    accuracy, *pooled = board.measures()
    assert accuracy.value == pytest.approx(0.75)
    assert accuracy.per_class["car"].pairs == 1
    assert accuracy.per_pair == [0.5, None, 1.0]
    assert [measure.name for measure in pooled] == ["AUSE", "ECE", "confident half"]
    assert pooled[2].value == pytest.approx(1)
