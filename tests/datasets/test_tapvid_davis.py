import pickle
from pathlib import Path

import numpy as np
import pytest

from geomatch.datasets.benchmarks.tapvid_davis import TAP_VID_DAVIS
from geomatch.datasets.load import find_root
from geomatch.datasets.pairs import AnnotatedPair, PairErrors
from geomatch.errors import InputError
from tests.datasets.layouts import tap_video, write_tap_vid


def load(root: Path) -> list[AnnotatedPair]:
    return TAP_VID_DAVIS.load(root, "test", PairErrors())


@pytest.fixture
def tap_vid(tmp_path: Path) -> Path:
    return write_tap_vid(tmp_path / "tapvid_davis")


def test_points_are_queried_in_the_first_frame_that_shows_them(tap_vid: Path) -> None:
    """Points 0 and 1 are seen first in frame 0, point 2 in frame 1, point 3 never."""
    pairs = [pair for pair in load(tap_vid) if pair.category == "car"]
    assert [(pair.source.name, pair.target.name) for pair in pairs] == [
        ("car/00000", "car/00001"),
        ("car/00000", "car/00002"),
        ("car/00001", "car/00002"),
    ]
    first, second, third = pairs
    points = tap_video()["points"] * 256 - 0.5
    np.testing.assert_allclose(first.source_points, points[[0, 1], 0])
    np.testing.assert_allclose(first.target_points, points[[0, 1], 1])
    assert first.hidden_points is not None
    assert first.hidden_points.shape == (0, 2)
    np.testing.assert_allclose(second.target_points, points[[0], 2])
    np.testing.assert_allclose(second.hidden_points, points[[1], 0])
    np.testing.assert_allclose(third.source_points, points[[2], 1])


def test_frames_are_squashed_to_256_pixels(tap_vid: Path) -> None:
    pair = load(tap_vid)[1]
    pixels = pair.target.load()
    assert pixels.shape == (3, 256, 256)
    video = tap_video()["video"]
    assert pixels.float().mean().item() == pytest.approx(video[2].mean(), abs=1)
    assert pair.target.fingerprint() != pair.source.fingerprint()


def test_archive_may_unpack_into_a_folder_of_its_own(tap_vid: Path) -> None:
    assert TAP_VID_DAVIS.splits(tap_vid.parent) == TAP_VID_DAVIS.splits(tap_vid) == ["test"]
    assert len(load(tap_vid.parent)) == len(load(tap_vid))
    assert find_root(TAP_VID_DAVIS, tap_vid) == tap_vid


def test_half_a_download_is_named(tap_vid: Path) -> None:
    file = tap_vid / "tapvid_davis.pkl"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"tapvid_davis\.pkl: cannot be read \(.*truncated.*\); download it again"):
        load(tap_vid)
    file.unlink()
    with pytest.raises(InputError, match=r"tap-vid-davis needs .*\.pkl; download tapvid_davis\.zip from https"):
        load(tap_vid)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([tap_video()], "must be a dictionary of videos by name"),
        ({}, "must be a dictionary of videos by name"),
        ({"a\nb": tap_video()}, "must be a dictionary of videos by name"),
        ({"car": {"video": 1}}, r"pkl, car: not a video of TAP-Vid \('points'\)"),
        ({"car": tap_video() | {"video": tap_video()["video"][:2]}}, "do not fit"),
        ({"car": tap_video() | {"video": tap_video()["video"].astype(float)}}, "do not fit"),
        ({"car": tap_video() | {"occluded": tap_video()["occluded"][0]}}, "car: not a video of TAP-Vid"),
        ({"car": tap_video() | {"points": np.full((4, 3, 2), np.nan)}}, "a visible point is nowhere"),
    ],
)
def test_bad_video_is_named(tmp_path: Path, content: object, reason: str) -> None:
    (tmp_path / "tapvid_davis.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=reason):
        load(tmp_path)
