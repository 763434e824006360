"""TAP-Vid DAVIS (Doersch et al., NeurIPS Datasets 2022): points followed through 30 videos, queried first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from geomatch.annotations import Points
from geomatch.datasets.base import Benchmark
from geomatch.datasets.pairs import AnnotatedPair, PairErrors
from geomatch.errors import InputError
from geomatch.io.formats.pickled_arrays import read_pickled_arrays

FILE = "tapvid_davis.pkl"
SIDE = 256
"""Pixels of the squares that frames are squashed to, and that positions are measured in."""


@dataclass(frozen=True)
class Video:
    """frames: (T, SIDE, SIDE, 3) uint8. points: (N, T, 2), pixel centres at integers. occluded: (N, T) bool."""

    frames: NDArray[np.uint8]
    points: Points
    occluded: NDArray[np.bool_]


@dataclass(frozen=True)
class VideoFrame:
    """A frame of a video in the file ``path``, from 0."""

    path: Path
    video: str
    index: int

    @property
    def name(self) -> str:
        return f"{self.video}/{self.index:05d}"

    def load(self) -> Tensor:
        frame = read_videos(self.path)[self.video].frames[self.index]
        return torch.from_numpy(frame).permute(2, 0, 1).contiguous()

    def fingerprint(self) -> str:
        state = self.path.stat()
        return f"{self.name}:{state.st_size}:{state.st_mtime_ns}"


def splits(root: Path) -> list[str]:
    return ["test"] if _file(root).is_file() else []


def load(root: Path, _split: str, errors: PairErrors) -> list[AnnotatedPair]:
    """Read ``tapvid_davis.pkl`` and pair each frame in which points are queried with each frame after it.

    The pickle is a dictionary of the videos' names, each with ``video`` T x H x W x 3 uint8, ``points`` N x T x 2, x
    and y as shares of width and height, and ``occluded`` N x T. It is read without running code. As the authors'
    ``evaluation_datasets.py`` does it with ``query_mode="first"``, a point is queried in the first frame that shows it,
    and frames are squashed to 256 x 256 pixels (by Lanczos' filter). A point that a frame occludes is a hidden point of
    its pair. The category is the video. Frames are matched with the query's frame directly: nothing is tracked.

    Raises InputError naming what is missing or malformed.
    """
    file = _file(root)
    if not file.is_file():
        raise TAP_VID_DAVIS.missing([file])
    videos = read_videos(file)
    return errors.read_all(_queries(videos), lambda query: _make_pair(file, videos[query[0]], *query))


TAP_VID_DAVIS = Benchmark(
    name="tap-vid-davis",
    about="points through the frames of 30 videos",
    home="https://storage.googleapis.com/dm-tapnet/tapvid_davis.zip",
    archives="tapvid_davis.zip",
    splits=splits,
    reader=load,
    folders=("tapvid_davis", "tapvid-davis"),
)


def read_videos(path: Path) -> Mapping[str, Video]:
    """The videos of the pickle, by name; those of the last file stay in memory. Raises InputError, naming the file."""
    try:
        return _read_videos(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


@lru_cache(maxsize=1)
def _read_videos(path: Path, _changed: int) -> Mapping[str, Video]:
    try:
        with path.open("rb") as file:
            content = read_pickled_arrays(file)
    except ValueError as error:
        raise InputError(f"{path}: cannot be read ({error}); download it again") from error
    if not isinstance(content, dict) or not content or not all(map(_is_name, content)):
        raise InputError(f"{path}: must be a dictionary of videos by name, as {TAP_VID_DAVIS.archives} has it")
    # Each video is released before the next one is squashed: all of them take two gigabytes.
    return {name: _read_video(f"{path}, {name}", content.pop(name)) for name in list(content)}


def _is_name(key: object) -> bool:
    return isinstance(key, str) and key.isprintable()


def _read_video(origin: str, entry: Any) -> Video:
    try:
        frames, points, occluded = (entry[name] for name in ("video", "points", "occluded"))
        tracks, count = occluded.shape
        fits = frames.shape[0] == count and frames.shape[3:] == (3,) and points.shape == (tracks, count, 2)
        if not (fits and frames.dtype == np.uint8 and frames.size and occluded.dtype == np.bool_):
            raise ValueError(f"video {frames.shape}, points {points.shape} and occluded {occluded.shape} do not fit")
        positions = points.astype(np.float64)
        if not np.isfinite(positions[~occluded]).all():
            raise ValueError("a visible point is nowhere")
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{origin}: not a video of TAP-Vid ({error})") from error
    squashed = [np.asarray(Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.LANCZOS)) for frame in frames]
    return Video(np.stack(squashed), positions * SIDE - 0.5, occluded)


def _queries(videos: Mapping[str, Video]) -> Iterator[tuple[str, int, int]]:
    """The name of a video, a frame that shows some points first, and a later frame."""
    for name, video in videos.items():
        first = _first_frames(video)
        for query in np.unique(first[first >= 0]).tolist():
            yield from ((name, query, frame) for frame in range(query + 1, len(video.frames)))


def _first_frames(video: Video) -> NDArray[np.intp]:
    """(N,), the first frame that shows each point, -1 if none does."""
    shown = ~video.occluded
    return np.where(shown.any(axis=1), shown.argmax(axis=1), -1)


def _make_pair(file: Path, video: Video, name: str, query: int, frame: int) -> AnnotatedPair:
    queried = _first_frames(video) == query
    hidden = queried & video.occluded[:, frame]
    visible = queried & ~hidden
    return AnnotatedPair(
        VideoFrame(file, name, query),
        VideoFrame(file, name, frame),
        name,
        video.points[visible, query],
        video.points[visible, frame],
        origin=f"{file.name}, {name}, frames {query} and {frame}",
        hidden_points=video.points[hidden, query],
    )


def _file(root: Path) -> Path:
    """The pickle, in the folder or in the one that its archive unpacks to."""
    return next((path for path in (root / FILE, root / "tapvid_davis" / FILE) if path.is_file()), root / FILE)
