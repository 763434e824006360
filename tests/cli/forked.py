"""Runs commands on real file descriptors, each in a process of its own that is forked from one that has loaded torch.

`python -m tests.cli.forked CELLS.json RESULTS.json` is that one. A cell names a folder, arguments, what the three
streams are, and their encoding; its result is the exit status. Where nothing is special about streams, it runs the
command itself, and so loads what the others need.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from tests.conftest import ROOT

Stream = Literal["file", "closed", "full", "unread"]
PATIENCE = 120  # seconds, for a command that waits for ever


@dataclass(frozen=True)
class Cell:
    """folder: where the command runs; FOLDER.stdout and FOLDER.stderr take what it prints. stub: with the stub's
    features and no weights. encoding: of stdout and stderr."""

    folder: str
    arguments: Sequence[str]
    stdin: Stream = "file"
    stdout: Stream = "file"
    stderr: Stream = "file"
    encoding: str = "utf-8"
    stub: bool = True


def run_cells(cells: Sequence[Cell], place: Path) -> list[int]:
    """The exit statuses of commands, run one after the other. place: a folder for two files."""
    (place / "cells.json").write_text(json.dumps([asdict(cell) for cell in cells]))
    files = (str(place / "cells.json"), str(place / "results.json"))
    own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(place / "cache")}
    subprocess.run([sys.executable, "-m", "tests.cli.forked", *files], env=os.environ | own, check=True)
    return list(json.loads((place / "results.json").read_text()))


def _run(cell: Cell) -> int:
    return _run_here(cell) if cell == replace(Cell(cell.folder, cell.arguments), stub=cell.stub) else _fork(cell)


def _run_here(cell: Cell) -> int:
    os.chdir(cell.folder)
    sys.argv = ["geomatch", *cell.arguments]
    with (
        Path(f"{cell.folder}.stdout").open("w", encoding="utf-8") as out,
        Path(f"{cell.folder}.stderr").open("w", encoding="utf-8") as err,
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        return _command(stub=cell.stub)


def _fork(cell: Cell) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 99  # for an exception that leaves the command, which is a traceback
    try:
        os.chdir(cell.folder)
        sys.argv = ["geomatch", *cell.arguments]
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            _redirect(number, getattr(cell, name), f"{cell.folder}.{name}")
        signal.alarm(PATIENCE)
        _open_as_the_interpreter_does(cell)
        status = _command(stub=cell.stub)
    finally:
        os._exit(status)


def _redirect(number: int, stream: Stream, file: str) -> None:
    if stream == "closed":
        os.close(number)
        return
    if stream == "unread":
        reader, new = os.pipe()
        os.close(reader)
    elif stream == "full":
        new = os.open("/dev/full", os.O_RDWR)
    else:
        new = os.open(file if number else os.devnull, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.dup2(new, number)
    os.close(new)


def _open_as_the_interpreter_does(cell: Cell) -> None:
    def opened(number: int, stream: Stream, errors: str) -> io.TextIOWrapper | None:
        if stream == "closed":
            return None
        file = open(number, "rb" if number == 0 else "wb", closefd=False)  # noqa: SIM115
        return io.TextIOWrapper(file, encoding=cell.encoding, errors=errors, line_buffering=number == 2)

    sys.stdin = sys.__stdin__ = opened(0, cell.stdin, "strict")  # type: ignore[assignment, misc]
    sys.stdout = sys.__stdout__ = opened(1, cell.stdout, "strict")  # type: ignore[assignment, misc]
    sys.stderr = sys.__stderr__ = opened(2, cell.stderr, "backslashreplace")  # type: ignore[assignment, misc]


def _command(*, stub: bool) -> int:
    """The status that the interpreter would end with."""
    from geomatch.cli.app import main
    from geomatch.cli.options import PipelineOptions
    from tests.stub import build_stub

    loaded, status = PipelineOptions.build, 0
    if stub:
        PipelineOptions.build = build_stub  # type: ignore[method-assign]
    try:
        main()
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 99
    PipelineOptions.build = loaded  # type: ignore[method-assign]
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            status = 120
    return status


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    wanted = [Cell(**cell) for cell in json.loads(Path(sys.argv[1]).read_text())]
    Path(sys.argv[2]).write_text(json.dumps([_run(cell) for cell in wanted]))
