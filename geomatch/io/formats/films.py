"""The frames of films: ``clip.mp4#12`` is read as an image file is. PyAV decodes them, the extra ``video``."""

from __future__ import annotations

import os
import re
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG
from threading import Lock
from typing import Any

from geomatch.errors import GeomatchError, InputError
from geomatch.io.parsing import opening
from geomatch.runtime.optional import import_av

_FORMATS = {".mp4": "mov", ".m4v": "mov", ".mov": "mov", ".mkv": "matroska", ".webm": "matroska", ".avi": "avi"}
"""What FFmpeg calls the containers that are read. Others, such as playlists, could make it open further files."""
_FRAME = re.compile(rf"(.+(?:{'|'.join(map(re.escape, _FORMATS))}))#(\d{{1,9}})", re.IGNORECASE | re.DOTALL)
_INDEXED = {"h264", "hevc", "vp9", "av1", "libdav1d"}
"""Decoders whose packets, in these containers, are a frame each, and shown; those of others may be none, or several."""
_KEPT = 8
"""Decoded frames of a film that are kept: several threads read ahead, in nearly the order of the film."""
_DIGITS = 6


def is_film(path: Path) -> bool:
    """Whether a file of this name is a film."""
    return path.suffix.lower() in _FORMATS


def frame_of(path: Path) -> tuple[Path, int] | None:
    """The film and the number, from 0, of the frame that a path names; None if it names none.

    >>> frame_of(Path("a/clip.mp4#000012")), frame_of(Path("clip.mp4"))
    ((PosixPath('a/clip.mp4'), 12), None)
    """
    found = _FRAME.fullmatch(str(path))
    return (Path(found[1]), int(found[2])) if found and not path.exists() else None


def frame_names(film: Path) -> list[Path]:
    """The names of all frames of a film. It is decoded, to count them, only where its packets do not say how many.

    Raises InputError if it cannot be read, MissingLibraryError without PyAV.
    """
    with _reading(film) as about:
        count = _film(film, about.st_mtime_ns, about.st_size).count()
    if not count:
        raise InputError(f"{film}: holds no frames")
    return [Path(f"{film}#{number:0{_DIGITS}d}") for number in range(count)]


def read_frame(film: Path, number: int) -> bytes:
    """A frame of a film, upright, as the content of an image file (PPM).

    Raises InputError, naming the film, if it cannot be read or has no such frame, MissingLibraryError without PyAV.
    """
    with _reading(film) as about:
        return _film(film, about.st_mtime_ns, about.st_size).frame(number)


class _Film:
    """Decodes the frames of a film for several threads: one after the other, or from the key frame before one."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, Lock()
        self._times, self._keys = _index(path)
        self._frames: Iterator[tuple[int, Any]] | None = None
        self._next = 0
        self._recent = OrderedDict[int, Any]()

    def count(self) -> int:
        return len(self._times) or sum(1 for _ in _decoded(self._path))

    def frame(self, number: int) -> bytes:
        with self._lock:
            may_exist = not self._times or number < len(self._times)
            for start in dict.fromkeys((self._key(number), 0)):  # from the first if seeking led astray
                if may_exist and number not in self._recent:
                    self._decode(number, start)
            if number in self._recent:
                return _to_ppm(self._recent[number])
        if number < (count := self.count()):
            raise InputError(f"{self._path}: frame {number} cannot be decoded; the film is damaged there")
        raise InputError(f"{self._path}: has {count} frames, numbered from 0; there is no frame {number}")

    def _key(self, number: int) -> int:
        """The last frame, up to this one, that decoding can begin at."""
        place = bisect_right(self._keys, number)
        return self._keys[place - 1] if place else 0

    def _decode(self, number: int, start: int) -> None:
        """Decode up to a frame, from ``start`` or from where the last call ended if that is as near."""
        frames, self._frames = self._frames, None  # after an error, or the end, there is nothing to go on from
        if frames is None or not start - _KEPT <= self._next <= number:
            frames = self._frames_from(start)
        for place, frame in frames:
            if place > number - _KEPT:
                self._recent[place] = frame
                if len(self._recent) > _KEPT:
                    self._recent.popitem(last=False)
            if place >= number:
                self._frames, self._next = frames, place + 1
                return

    def _frames_from(self, start: int) -> Iterator[tuple[int, Any]]:
        """The frames with their numbers. A film without times starts at its first frame."""
        if not self._times:
            yield from enumerate(_decoded(self._path))
            return
        for frame in _decoded(self._path, self._times[start] if start else None):
            place = bisect_left(self._times, frame.pts)
            if self._times[place : place + 1] == [frame.pts]:
                yield place, frame


@lru_cache(maxsize=2)
def _film(path: Path, _changed: int, _size: int) -> _Film:
    """The film that is being read at a path, if the file is the same as before."""
    return _Film(path)


@contextmanager
def _opened(film: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its first video stream, None if it has none."""
    av = import_av("a film")
    with film.open("rb") as file, av.open(file, format=_FORMATS[film.suffix.lower()]) as container:
        yield container, next(iter(container.streams.video), None)


def _index(film: Path) -> tuple[list[int], list[int]]:
    """When each frame of a film is shown, in its unit of time, and the numbers of those that decoding can begin at.

    It is read from the packets, which is much quicker than decoding them. Both are empty if these do not say it.
    """
    with _opened(film) as (container, stream):
        if stream is None or container.format.name == "avi" or stream.codec_context.name not in _INDEXED:
            return [], []  # AVI has the times of decoding alone
        packets = [
            (packet.pts, packet.is_keyframe)
            for packet in container.demux(stream)
            if packet.size and not packet.is_discard
        ]
    first = next((time for time, key in packets if key), None)  # what is shown before it cannot be decoded
    if first is None or len({time for time, _ in packets} - {None}) < len(packets):
        return [], []
    shown = sorted(packet for packet in packets if packet[0] >= first)
    return [time for time, _ in shown], [number for number, (_, key) in enumerate(shown) if key]


def _decoded(film: Path, time: int | None = None) -> Iterator[Any]:
    """The frames of the first video stream, as PyAV has them, one at a time; all, or from a key frame's time on."""
    with _opened(film) as (container, stream):
        if stream is None:
            return
        stream.thread_type = "AUTO"
        if time is not None:
            container.seek(time, stream=stream)
        yield from container.decode(stream)


def _to_ppm(frame: Any) -> bytes:
    """A frame as phones mean it to be shown: turned, if the film says so."""
    picture = frame.to_image()
    if turn := frame.rotation:
        picture = picture.rotate(turn, expand=True)
    pixels: bytes = picture.convert("RGB").tobytes()
    return b"P6 %d %d 255\n" % picture.size + pixels


@contextmanager
def _reading(film: Path) -> Iterator[os.stat_result]:
    """What the system says of a film; what opening and decoding it raise becomes an InputError that names it."""
    with opening(film):
        about = film.stat()
    if not S_ISREG(about.st_mode):
        raise InputError(f"{film}: is not a file; a film is read more than once")
    try:
        yield about
    except GeomatchError:
        raise
    except Exception as error:  # on a damaged file PyAV raises many kinds
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InputError(f"{film}: not a film that can be read ({reason})") from error
