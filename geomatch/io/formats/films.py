"""The frames of films: ``clip.mp4#12`` is read as an image file is. PyAV decodes them, the extra ``video``."""

from __future__ import annotations

import os
import re
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
    """The names of all frames of a film: it is decoded once, to count them.

    Raises InputError if it cannot be read, MissingLibraryError without PyAV.
    """
    with _reading(film):
        count = sum(1 for _ in _decoded(film))
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
    """Decodes the frames of a film one after the other, for several threads; only what is behind is sought anew."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, Lock()
        self._frames: Iterator[Any] = iter(())
        self._next = 0
        self._recent = OrderedDict[int, bytes]()

    def frame(self, number: int) -> bytes:
        with self._lock:
            if number in self._recent:
                return self._recent[number]
            if number < self._next or not self._next:
                self._frames, self._next = _decoded(self._path), 0
            for frame in self._frames:
                self._next += 1
                if self._next > number - _KEPT:
                    self._recent[self._next - 1] = _to_ppm(frame)
                    while len(self._recent) > _KEPT:
                        self._recent.popitem(last=False)
                if self._next > number:
                    return self._recent[number]
            count, self._next = self._next, 0
            raise InputError(f"{self._path}: has {count} frames, numbered from 0; there is no frame {number}")


@lru_cache(maxsize=2)
def _film(path: Path, _changed: int, _size: int) -> _Film:
    """The film that is being read at a path, if the file is the same as before."""
    return _Film(path)


def _decoded(film: Path) -> Iterator[Any]:
    """The frames of the first video stream, as PyAV has them, one at a time."""
    av = import_av("a film")
    with film.open("rb") as file, av.open(file, format=_FORMATS[film.suffix.lower()]) as container:
        if not container.streams.video:
            return
        container.streams.video[0].thread_type = "AUTO"
        yield from container.decode(video=0)


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
