"""What every command shares: one console on stderr, and errors and notices rendered once."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from geomatch.errors import GeomatchError, GeomatchWarning, InputError

if TYPE_CHECKING:
    from geomatch.training.trainer import Progress

INTERRUPTED = 130


def stderr_console(*, quiet: bool = False) -> Console:
    """The console for progress and logs. Silent when asked to be, and when stderr is not a terminal."""
    return Console(stderr=True, quiet=quiet or not sys.stderr.isatty())


@contextmanager
def training_bar(*, quiet: bool) -> Iterator[Callable[[str, Progress], None]]:
    """A bar on stderr for each thing that is learnt; inside, call with its name and how far it is."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as ProgressBar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[said]}"),
    )
    with ProgressBar(*columns, console=stderr_console(quiet=quiet)) as bar:
        shown = {}
        preparing = bar.add_task("preparing", total=None, said="")

        def show(what: str, progress: Progress) -> None:
            bar.update(preparing, visible=False)
            if what not in shown:
                shown[what] = bar.add_task(what, said="")
            numbers = "  ".join(f"{name} {value:.3f}" for name, value in progress.report.items())
            said = f"{numbers}  {progress.images_per_second:.1f} images/s"
            bar.update(shown[what], total=progress.steps, completed=progress.step, said=said)

        yield show


@contextmanager
def counting_bar(what: str, total: int, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """A bar on stderr with rate and time left; inside, call for each of the ``total`` that is done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    # Data goes to stdout as it is, unless that is the terminal the bar moves on.
    with Progress(*columns, console=stderr_console(quiet=quiet), redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task(what, total=total, rate="")

        def advance() -> None:
            bar.update(task, advance=1)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:.1f}/s" if speed else "")

        yield advance


def rendered_errors(command: Callable[[], object]) -> int:
    """Run a command; turn what it raises into one sentence on stderr and an exit status."""
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    warnings.simplefilter("always", GeomatchWarning)
    try:
        command()
    except GeomatchError as error:
        _say("error", str(error))
        return error.exit_code
    except (KeyboardInterrupt, SystemExit) as stop:
        # Typer turns a Ctrl-C into a silent exit.
        if isinstance(stop, SystemExit) and stop.code != INTERRUPTED:
            raise
        print("geomatch: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; what Python still holds of it must not raise again on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # A name that is too long, say: any question about it fails, wherever it is asked.
        if error.filename is None:
            raise
        _say("error", f"{os.fsdecode(error.filename)}: {error.strerror}")
        return InputError.exit_code
    return 0


def notify(message: str) -> None:
    """Say something that is no error, one line on stderr."""
    _say("note", message)


def _show_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    if issubclass(category, GeomatchWarning):
        notify(str(message))


def printable(text: str) -> str:
    """Text on one line; names from files can hold line breaks, and what a terminal would obey."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _say(kind: str, message: str) -> None:
    print(f"geomatch: {kind}: {printable(message)}", file=sys.stderr)
