"""What every command shares: one console on stderr, and errors and notices rendered once."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable

from rich.console import Console

from geomatch.errors import GeomatchError, GeomatchWarning

INTERRUPTED = 130


def stderr_console(*, quiet: bool = False) -> Console:
    """The console for progress and logs. Silent when asked to be, and when stderr is not a terminal."""
    return Console(stderr=True, quiet=quiet or not sys.stderr.isatty())


def rendered_errors(command: Callable[[], object]) -> int:
    """Run a command; turn what it raises into one sentence on stderr and an exit status."""
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    warnings.simplefilter("always", GeomatchWarning)
    try:
        command()
    except GeomatchError as error:
        _say("error", str(error))
        return error.exit_code
    except KeyboardInterrupt:
        print("geomatch: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; what Python still holds of it must not raise again on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def notify(message: str) -> None:
    """Say something that is no error, one line on stderr."""
    _say("note", message)


def _show_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    if issubclass(category, GeomatchWarning):
        notify(str(message))


def _say(kind: str, message: str) -> None:
    print(f"geomatch: {kind}: {message}", file=sys.stderr)
