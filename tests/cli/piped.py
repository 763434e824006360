"""The command as a user types it, run in this process, with files that it reads as pipes."""

from __future__ import annotations

import io
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Literal

import pytest

from geomatch.cli.app import main
from geomatch.cli.options import PipelineOptions
from tests.stub import build_stub

Pipe = Literal["fifo", "descriptor", "stdin"]
PATIENCE = 60  # seconds, for a command that reads a pipe twice, and so waits for ever


class Waiting(BaseException):
    """A command did not end in time."""


@dataclass(frozen=True)
class Printed:
    """A command's exit status, and what it printed."""

    status: int
    stdout: bytes
    stderr: str


def run_piped(words: list[str], folder: Path, pipes: Mapping[str, Pipe], *, stub: bool) -> Printed:
    """Run a command in a folder. pipes: the files among its words whose bytes come once, and through what: a FIFO in
    their place, an open descriptor as of ``<(...)``, or stdin. stub: with the stub's features and no weights.

    What the command does not turn into a sentence and a status is raised here.
    """
    out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), _stdin_restored(), _patience():
        patch.chdir(folder)
        if stub:
            patch.setattr(PipelineOptions, "build", build_stub)
        fed = [_feed(word, pipes[word]) if word in pipes else (word, None) for word in words]
        patch.setattr(sys, "argv", ["geomatch", *(word for word, _ in fed)])
        patch.setattr(sys, "stdin", io.TextIOWrapper(open(0, "rb", closefd=False)))  # noqa: SIM115
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
        for _, reader in fed:
            if reader is not None:
                os.close(reader)
    out.flush()
    return Printed(int(ended.value.code or 0), out.buffer.getvalue(), err.getvalue())  # type: ignore[attr-defined]


@contextmanager
def _stdin_restored() -> Iterator[None]:
    saved = os.dup(0)
    yield
    os.dup2(saved, 0)
    os.close(saved)


@contextmanager
def _patience() -> Iterator[None]:
    def give_up(*_: object) -> None:
        raise Waiting

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _feed(name: str, pipe: Pipe) -> tuple[str, int | None]:
    """Send the bytes of a file through a pipe, once; the argument that stands for it, and a descriptor to close."""
    path = Path(name)
    content = path.read_bytes()
    if pipe == "fifo":
        path.unlink()
        os.mkfifo(path)
        Thread(target=path.write_bytes, args=(content,), daemon=True).start()
        return name, None
    reader, writer = os.pipe()

    def send() -> None:
        with open(writer, "wb") as file:  # noqa: PTH123
            file.write(content)

    Thread(target=send, daemon=True).start()
    if pipe == "descriptor":
        return f"/dev/fd/{reader}", reader
    os.dup2(reader, 0)
    os.close(reader)
    return "-", None
