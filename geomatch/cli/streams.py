"""The process's stdin, stdout and stderr, made such that no result depends on them.

A stream may be closed, full, a pipe that nobody reads, or of any encoding. A command writes its files all the same;
what could not be printed is remembered, and its exit status says so.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING

from geomatch.errors import GeomatchError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _SteadyFile(io.FileIO):
    """A file descriptor that takes any output: the first failure is remembered, and nothing is written after it."""

    failure: OSError | None = None

    def write(self, content: ReadableBuffer, /) -> int:
        if self.failure is None:
            try:
                # Only a descriptor that another process made non-blocking gives None: its reader is slow.
                while (written := super().write(content)) is None:
                    select.select([], [self], [])
                return written
            except OSError as error:
                self.failure = error
        return memoryview(content).nbytes


def secure_streams() -> None:
    """Open the streams that are closed on the null device, and let writing to stdout and stderr never raise.

    Characters beyond a stream's encoding are escaped. Streams that a program has replaced stay as they are.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free; no file of ours must become stdout
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115 (open as long as the process)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _steady(sys.stdout, 1)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _steady(sys.stderr, 2)


def check_printed() -> int:
    """0, the exit status, if all was printed. Raises BrokenPipeError, or GeomatchError with a sentence, if not."""
    sys.stdout.flush()
    file = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    failure = file.failure if isinstance(file, _SteadyFile) else None
    if failure is None:
        return 0
    if failure.errno == errno.EPIPE:
        raise failure
    raise GeomatchError(f"stdout: could not be written ({failure.strerror}); files are complete")


def utf8_stdout() -> bool:
    """Whether stdout takes any character; JSON is ASCII if it does not."""
    return (sys.stdout.encoding or "utf-8").lower().replace("_", "-") in ("utf-8", "utf8")


def _steady(stream: io.TextIOWrapper | None, number: int) -> io.TextIOWrapper:
    """The same stream, or the null device in its place, as one that never raises."""
    file = io.BufferedWriter(_SteadyFile(number, "w", closefd=False))
    if stream is None:
        return io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace")
    lines = stream.line_buffering or number == 2
    return io.TextIOWrapper(file, encoding=stream.encoding, errors="backslashreplace", line_buffering=lines)
