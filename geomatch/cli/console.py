"""Shared by all commands: the console on stderr, progress bars, and errors and notices as one line each."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from geomatch.cli.streams import check_printed, secure_streams
from geomatch.errors import GeomatchError, GeomatchWarning, InputError, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from geomatch.training.trainer import Progress as TrainingProgress

INTERRUPTED = 130


def stderr_console(*, quiet: bool = False) -> Console:
    """The console for progress and logs; silent if ``quiet``, and where stderr is not a terminal."""
    from rich.console import Console

    return Console(stderr=True, quiet=quiet or not sys.stderr.isatty())


@contextmanager
def status_line(doing: str, *, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what is done now; call the value with another text to replace it.

    Silent as `stderr_console` is, and then without loading Rich.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    with stderr_console().status(doing) as status:
        yield status.update


@contextmanager
def training_bar(output: Path, *, quiet: bool) -> Iterator[Callable[[str, TrainingProgress], None]]:
    """A bar on stderr for each task that is trained; call the value with a task's name and progress.

    At the end, a note says how each task ended, how long all took, and that ``output`` holds the weights.
    """
    started = perf_counter()
    last: dict[str, TrainingProgress] = {}
    with _progress_bars(quiet=quiet) as bars:
        tasks: dict[str, TaskID] = {}
        preparing = bars.add_task("preparing", total=None, note="")

        def show(name: str, progress: TrainingProgress) -> None:
            bars.update(preparing, visible=False)
            last[name] = progress
            if name not in tasks:
                tasks[name] = bars.add_task(name, note="")
            note = f"{progress.images_per_second:.1f} images/s  {_numbers(progress)}"
            bars.update(tasks[name], total=progress.steps, completed=progress.step, note=note)

        yield show
    if last and not quiet:
        ended = "; ".join(
            f"{name}, {each.step:,} step{'s' * (each.step != 1)}, {_numbers(each)}" for name, each in last.items()
        )
        notify(f"{output}: {ended}; {timedelta(seconds=round(perf_counter() - started))}")


class Advance(Protocol):
    """Advances a bar by ``count``; ``doing`` replaces its text."""

    def __call__(self, count: int = 1, *, doing: str | None = None) -> None: ...


@contextmanager
def counting_bar(doing: str, total: int, *, quiet: bool) -> Iterator[Advance]:
    """A bar on stderr that counts to ``total``, with rate and time left; call the value for each item done."""
    with _progress_bars(quiet=quiet) as bars:
        task = bars.add_task(doing, total=total, note="")

        def advance(count: int = 1, *, doing: str | None = None) -> None:
            bars.update(task, advance=count, description=doing)
            speed = bars.tasks[0].speed
            bars.update(task, note=f"{speed:.1f}/s" if speed else "")

        yield advance


def _numbers(progress: TrainingProgress) -> str:
    return "  ".join(f"{key} {value:.3f}" for key, value in progress.report.items())


def _progress_bars(*, quiet: bool) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    return Progress(
        TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", max_width=24)),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        # What is left of the line: on a narrow terminal the note is cut, not the bar, the steps or the time.
        TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
        expand=True,
        console=stderr_console(quiet=quiet),
        redirect_stdout=sys.stdout.isatty(),  # elsewhere stdout carries data, which goes out unchanged
    )


def run_command(command: Callable[[], int]) -> int:
    """Run a command and return its exit status; an exception becomes one line on stderr.

    What could not be printed makes the status 1, but stops nothing.
    """
    secure_streams()
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    warnings.simplefilter("always", GeomatchWarning)
    status = _status_of(command)
    printed = _status_of(check_printed)
    return status or printed


def _status_of(command: Callable[[], int]) -> int:
    try:
        status = command()
    except GeomatchError as error:
        print_error(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:
        return 1  # the reader of stdout has gone, and needs no message
    except OSError as error:
        # For example a file name that is too long, on which every system call fails.
        if error.filename is None:
            raise
        print_error(f"{os.fsdecode(error.filename)}: {error.strerror}")
        return InputError.exit_code
    if status == INTERRUPTED:  # Typer, too, turns a Ctrl-C into this
        print("geomatch: interrupted", file=sys.stderr)
    return status


def notify(message: str) -> None:
    """Print a note, one line on stderr; ``--quiet`` silences it."""
    warnings.warn(message, GeomatchWarning, stacklevel=2)


def print_error(message: str) -> None:
    """Print an error, one line on stderr."""
    _print_line("error", message)


def _show_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    if issubclass(category, GeomatchWarning):
        _print_line("note", str(message))


def _print_line(kind: str, message: str) -> None:
    print(f"geomatch: {kind}: {printable(message)}", file=sys.stderr)
