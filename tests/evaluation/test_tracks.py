"""The measures of TAP-Vid against ``compute_tapvid_metrics``, written out point by point."""

from pathlib import Path

import numpy as np
import pytest

from geomatch.datasets.benchmarks.tapvid_davis import TAP_VID_DAVIS, read_videos
from geomatch.datasets.pairs import PairErrors
from geomatch.evaluation.metrics.tracks import TRACK_THRESHOLDS, count_tracks
from geomatch.evaluation.prediction import Prediction
from geomatch.evaluation.protocols import find_protocols
from geomatch.evaluation.scoreboard import Scoreboard
from tests.datasets.layouts import write_tap_vid


def metrics_of_authors(
    tracks: np.ndarray, occluded: np.ndarray, predicted: np.ndarray, predicted_occluded: np.ndarray
) -> dict[str, float]:
    """Queries in the first visible frame; (N, T, 2) and (N, T)."""
    evaluated = [
        (point, frame)
        for point in range(len(tracks))
        if not occluded[point].all()
        for frame in range(int(np.argmin(occluded[point])) + 1, tracks.shape[1])
    ]
    right = sum(occluded[at] == predicted_occluded[at] for at in evaluated)
    found = {"OA": right / len(evaluated), "delta_avg": 0.0, "AJ": 0.0}
    for threshold in (1, 2, 4, 8, 16):
        within = {at: ((predicted[at] - tracks[at]) ** 2).sum() < threshold**2 for at in evaluated}
        visible = [at for at in evaluated if not occluded[at]]
        found["delta_avg"] += sum(within[at] for at in visible) / len(visible) / 5
        true = sum(within[at] and not predicted_occluded[at] for at in visible)
        false = sum((occluded[at] or not within[at]) and not predicted_occluded[at] for at in evaluated)
        found["AJ"] += true / (len(visible) + false) / 5
    return found


def test_measures_are_those_of_the_authors(tmp_path: Path) -> None:
    root = write_tap_vid(tmp_path / "tapvid_davis")
    videos, pairs = read_videos(root / "tapvid_davis.pkl"), TAP_VID_DAVIS.load(root, "test", PairErrors())
    chance = np.random.default_rng(1)
    predicted, confidence = {}, {}
    for name, video in videos.items():
        predicted[name] = video.points + chance.normal(0, 4, video.points.shape)
        confidence[name] = chance.choice([0.3, 0.5, 0.9], video.occluded.shape)
    board = Scoreboard("tap-vid-davis", pairs, find_protocols("tap-vid-davis", ["tapvid"]))
    for pair in pairs:
        name, (query, frame) = pair.category, (image.index for image in (pair.source, pair.target))
        first = np.argmin(videos[name].occluded, axis=1)
        asked = ~videos[name].occluded.all(axis=1) & (first == query)
        seen = asked & ~videos[name].occluded[:, frame]
        positions, own = predicted[name][seen, frame], confidence[name][:, frame]
        board.add(
            Prediction((256, 256), (256, 256), positions, positions, own[seen], hidden_confidence=own[asked & ~seen])
        )
    expected = [
        metrics_of_authors(video.points, video.occluded, predicted[name], confidence[name] < 0.5)
        for name, video in videos.items()
    ]
    measures = {measure.name: measure for measure in board.measures()}
    for name in ("delta_avg", "AJ", "OA"):
        assert measures[name].value == pytest.approx(np.mean([each[name] for each in expected]))
        assert measures[name].per_class["car"].value == pytest.approx(expected[0][name])
        low, high = measures[name].interval
        assert low <= measures[name].value <= high
    results = board.results()
    assert [result.alpha * 256 for result in results] == list(TRACK_THRESHOLDS)
    assert np.mean([result.pck for result in results]) == pytest.approx(measures["delta_avg"].value)
    assert all(result.interval[0] <= result.pck <= result.interval[1] for result in results)


def test_counts_by_hand() -> None:
    """An error of one pixel is not within one pixel; a point far away that is told visible counts against it twice."""
    counts = count_tracks(np.array([0.5, 1.0, 30.0]), np.array([True, False, True]), np.array([True, False]))
    assert counts.within.tolist() == [1, 2, 2, 2, 2]
    assert counts.found.tolist() == [1, 1, 1, 1, 1]
    assert counts.claimed.tolist() == [3 + 1 + 1] * 5
    assert (counts.visible, counts.told, counts.points) == (3, 3, 5)
