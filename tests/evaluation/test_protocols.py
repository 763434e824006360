"""Each trap of public evaluation code, and the axes of the protocols, on hand-worked pairs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from geomatch.datasets.pairs import AnnotatedPair, ImageFile
from geomatch.errors import InputError
from geomatch.evaluation.prediction import Prediction
from geomatch.evaluation.protocols import (
    EVERY,
    Average,
    Boundary,
    Direction,
    Frame,
    FrameKind,
    Length,
    Protocol,
    Reading,
    Side,
    default_protocol,
    find_protocols,
)
from geomatch.evaluation.scoreboard import Scoreboard

SOURCE = np.array([[10.0, 20.0], [30.0, 25.0]])
TARGET = np.array([[50.0, 40.0], [90.0, 60.0]])


def make_pair(**changes: object) -> AnnotatedPair:
    images = (ImageFile(Path(f"{name}.png"), f"{name}.png") for name in "ab")
    pair = AnnotatedPair(*images, "duck", SOURCE, TARGET, (0, 0, 40, 30), (40, 20, 100, 70))
    return replace(pair, **changes)


def make_prediction(off_by: float = 0.0, **changes: object) -> Prediction:
    """Sizes 50 x 40 and 200 x 100 (width x height); every prediction is ``off_by`` to the right."""
    shift = np.array([off_by, 0])
    prediction = Prediction((40, 50), (100, 200), TARGET + shift, TARGET + shift, np.ones(2), SOURCE + shift)
    return replace(prediction, **changes)


@pytest.mark.parametrize(
    ("length", "side", "frame", "expected"),
    [
        (Length.keypoint_extent, Side.target, Frame(), 40),
        (Length.keypoint_extent, Side.source, Frame(), 20),
        (Length.object_box, Side.target, Frame(), 60),
        (Length.object_box, Side.source, Frame(), 40),
        (Length.image, Side.target, Frame(), 200),
        (Length.image, Side.source, Frame(), 50),
        (Length.image, Side.target, Frame(FrameKind.square, 240), 240),
        # x is scaled by 240 / 200, y by 240 / 100: the box of 60 x 50 becomes 72 x 120
        (Length.object_box, Side.target, Frame(FrameKind.square, 240), 120),
        (Length.keypoint_extent, Side.target, Frame(FrameKind.at_most, 100), 20),
        (Length.keypoint_extent, Side.target, Frame(FrameKind.at_most, 300), 40),
        (Length.keypoint_extent, Side.target, Frame(FrameKind.longer_side, 840), 168),
    ],
)
def test_threshold_length_by_image_and_frame(length: Length, side: Side, frame: Frame, expected: float) -> None:
    """Trap: width and height taken from the wrong image."""
    protocol = Protocol("test", length, side, frame=frame)
    assert protocol.threshold_length(make_pair(), make_prediction()) == pytest.approx(expected)


def test_errors_are_in_frame_of_predicted_image() -> None:
    squashed = Frame(FrameKind.square, 100)
    forward = Protocol("test", Length.image, frame=squashed)
    backward = Protocol("test", Length.image, Side.source, Direction.target_to_source, squashed)
    assert forward.errors(make_pair(), make_prediction(off_by=8)) == pytest.approx([4, 4])  # 100 / 200 of a pixel
    assert backward.errors(make_pair(), make_prediction(off_by=8)) == pytest.approx([16, 16])  # 100 / 50


def test_correct_at_the_boundary() -> None:
    pair, prediction = make_pair(), make_prediction(off_by=4)
    included = Protocol("test", Length.keypoint_extent)
    assert included.correct(pair, prediction, 0.1).tolist() == [True, True]
    assert replace(included, boundary=Boundary.excluded).correct(pair, prediction, 0.1).tolist() == [False, False]


def test_scoreboard_uses_length_of_each_pair() -> None:
    """Trap: thresholding every pair with the last pair's L."""
    small = make_pair(target_points=TARGET / 10)
    board = Scoreboard("pf-willow", [make_pair(), small], [default_protocol("pf-willow")])
    for pair in board.pairs:
        predicted = pair.target_points + np.array([3.0, 0.0])
        board.add(Prediction((40, 50), (100, 200), predicted, predicted, np.ones(2)))
    at_a_tenth = board.results()[1]
    assert at_a_tenth.alpha == 0.1
    assert at_a_tenth.pck == 0.5  # 3 <= .1 * 40, and 3 > .1 * 4
    assert [each.correct["geomatch"]["0.1"] for each in board.pair_list()] == [2, 0]


def test_correct_keeps_keypoints_that_round_alike() -> None:
    """Trap: rounding that makes keypoints collide and vanish."""
    points = np.array([[10.2, 20.0], [10.4, 20.0]])
    pair = make_pair(source_points=points)
    rounded = np.array([[50.0, 40.0], [50.0, 40.0]])
    prediction = make_prediction(rounded=rounded)
    protocol = Protocol("test", Length.keypoint_extent, reading=Reading.rounded)
    assert protocol.correct(pair, prediction, 0.1).tolist() == [True, False]


def test_correct_leaves_annotations_unchanged() -> None:
    """Trap: annotations rescaled in place, wrong from the second time on."""
    pair, prediction = make_pair(), make_prediction(off_by=5)
    before = [array.copy() for array in (pair.source_points, pair.target_points, prediction.forward)]
    for protocol in find_protocols("pf-pascal", [EVERY]):
        first = protocol.correct(pair, prediction, 0.05)
        assert (protocol.correct(pair, prediction, 0.05) == first).all()
    after = (pair.source_points, pair.target_points, prediction.forward)
    assert all((a == b).all() for a, b in zip(before, after, strict=True))


def test_keypoint_extent_counts_points_without_partner() -> None:
    """Proposal Flow takes the extent of all keypoints of an image (KP.bbox of prepKP_PASCAL.m)."""
    pair = make_pair(target_keypoints=np.vstack((TARGET, [[20.0, 50.0]])))
    assert Protocol("test", Length.keypoint_extent).threshold_length(pair, make_prediction()) == 70
    assert Protocol("test", Length.keypoint_extent, Side.source).threshold_length(pair, make_prediction()) == 20


def test_scnet_equals_released_formula() -> None:
    """eva_PCK_SCNet_AGplus.m, "same size": images and points scaled to 224 x 224, d / 224, share of d < alpha."""
    pair, rng = make_pair(), np.random.default_rng(0)
    flow_at_nearest = TARGET - SOURCE + rng.normal(0, 20, SOURCE.shape)
    prediction = make_prediction(rounded=SOURCE + flow_at_nearest)
    (scnet,) = find_protocols("pf-pascal", ["scnet"])
    released = []
    for part_a, v, part_b in zip(SOURCE, flow_at_nearest, TARGET, strict=True):
        x = (part_a[0] + v[0] - part_b[0]) * 224 / 200
        y = (part_a[1] + v[1] - part_b[1]) * 224 / 100
        released.append((x**2 + y**2) ** 0.5 / 224)
    measured = scnet.errors(pair, prediction) / scnet.threshold_length(pair, prediction)
    assert measured == pytest.approx(released)
    assert scnet.correct(pair, prediction, released[0] + 1e-9).tolist() == [True, released[1] <= released[0]]


def test_threshold_length_without_box_is_refused() -> None:
    pair = make_pair(target_box=None, origin="row 7")
    with pytest.raises(InputError, match="row 7: protocol test needs an object box"):
        Protocol("test", Length.object_box).correct(pair, make_prediction(), 0.1)


def test_public_protocols_follow_their_code() -> None:
    def known(dataset: str) -> dict[str, Protocol]:
        return {protocol.name: protocol for protocol in find_protocols(dataset, [EVERY])}

    willow, pascal, spair = known("pf-willow"), known("pf-pascal"), known("spair-71k")
    assert list(willow) == ["geomatch", "pf", "scnet", "ncnet", "hpf", "dhpf", "cats"]
    assert list(pascal) == ["geomatch", "pf", "scnet", "ncnet", "hpf", "dhpf", "cats", "geoaware"]
    assert list(spair) == ["geomatch", "hpf", "dhpf", "cats", "dift", "geoaware"]
    assert willow["pf"].meaning() == (
        "source to target, rounded keypoint, original pixels; error < alpha x longer side of the target's "
        "keypoint extent; per-class"
    )
    assert pascal["scnet"].meaning() == (
        "source to target, rounded keypoint, squashed to a square of 224; error < alpha x longer side of the target's "
        "image; per-image"
    )
    assert willow["scnet"] == replace(willow["pf"], name="scnet", averages=(Average.per_image,))
    assert pascal["ncnet"].meaning() == (
        "target to source, exact keypoint, squashed to a square of 224; error <= alpha x longer side of the source's "
        "image; per-image"
    )
    assert spair["geoaware"].meaning() == (
        "source to target, exact keypoint, longer side 840; error < alpha x longer side of the target's object box; "
        "per-image and per-point; alpha 0.01, 0.05, 0.1"
    )
    assert spair["cats"].length_of is Side.source
    assert spair["dift"].averages == (Average.per_image, Average.per_point)
    assert willow["ncnet"].frame == Frame()
    assert pascal["geoaware"].averages == (Average.per_image, Average.per_point)


def test_find_protocols_once_each_and_refuses_unknown() -> None:
    assert [p.name for p in find_protocols("pf-willow", ["hpf", "geomatch", "hpf"])] == ["hpf", "geomatch"]
    with pytest.raises(InputError, match=r"unknown protocol 'pfff'.*the known ones are geomatch, pf, "):
        find_protocols("pf-willow", ["pfff"])
    with pytest.raises(InputError, match="pf-willow has no protocol 'dift'; choose from geomatch, pf"):
        find_protocols("pf-willow", ["dift"])
