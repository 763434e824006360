"""An input, read once: a file, a FIFO, a process's ``<(…)``, or stdin for ``-``.

Every reader takes its bytes from here. It accepts a path or what was read from one, so that nobody opens an input a
second time, and a checksum is of the bytes that were used.
"""

from __future__ import annotations

import hashlib
import os
import select
import stat
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, TypeAlias

from geomatch.errors import InputError
from geomatch.io.formats.films import frame_of, read_frame
from geomatch.io.formats.signatures import HEAD, stand_in
from geomatch.io.parsing import MAX_BYTES, decode, opening

STDIN = Path("-")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class InputFile(os.PathLike[str]):
    """A file that has been read. repeatable: a regular file, which could be read again."""

    path: Path
    content: bytes = field(repr=False)
    repeatable: bool = True

    def __str__(self) -> str:
        """What messages call it."""
        return called(self.path)

    def __fspath__(self) -> str:
        return str(self.path)

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal, of the bytes that were read."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def text(self) -> str:
        """The content as text, see `decode`. Raises InputError."""
        return decode(self.content, str(self))


Input: TypeAlias = Path | InputFile
"""A path, or what was read from it."""


def called(path: Path) -> str:
    """What messages call a path."""
    return "stdin" if path == STDIN else str(path)


def stem_of(path: Path) -> str:
    """The name of an input without its suffix, for the names of what is made of it."""
    if frame := frame_of(path):
        film, number = frame
        return f"{film.stem}-{number:06d}"
    return Path(called(path)).stem


def read_input(source: Input) -> InputFile:
    """The file at a path, or stdin for ``-``; what has been read already is returned as it is.

    A frame of a film, as ``clip.mp4#12``, is the file of an image.

    Raises InputError if it is missing, a folder, a socket or a device, unreadable, larger than MAX_BYTES, or a web page
    or a pointer of Git LFS in its place.
    """
    if isinstance(source, InputFile):
        return source
    if frame := frame_of(source):
        return InputFile(source, read_frame(*frame))
    name = called(source)
    with opening(name):
        expected = 0
        if source != STDIN:
            status = source.stat()
            _check_kind(name, status.st_mode)
            expected = status.st_size
        with nullcontext(sys.stdin.buffer) if source == STDIN else source.open("rb") as file:
            content = _read(file, MAX_BYTES + 1, expected)
            repeatable = source != STDIN and stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    if len(content) > MAX_BYTES:
        raise InputError(f"{name}: larger than {MAX_BYTES >> 20} MiB; leave only what is needed in it")
    if other := stand_in(content[:HEAD]):
        raise InputError(f"{name}: is {other}")
    return InputFile(source, content, repeatable)


def _check_kind(name: str, mode: int) -> None:
    kind = "socket" if stat.S_ISSOCK(mode) else "device" if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else ""
    if kind:
        raise InputError(f"{name}: is a {kind}, which need not end; give a file, a FIFO, or - for stdin")


def _read(file: IO[bytes], most: int, expected: int) -> bytes:
    """What is left of a file, ``most`` bytes at the most, in one piece where no more than ``expected`` are left."""
    chunks, room, piece = [], most, max(expected, _CHUNK)
    while (chunk := file.read(min(room, piece))) != b"":
        if chunk is None:  # another process made the pipe non-blocking, and its writer is slow
            select.select([file], [], [])
        else:
            chunks.append(chunk)
            room -= len(chunk)
    return b"".join(chunks)
