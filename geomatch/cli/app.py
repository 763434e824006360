"""The command `geomatch`. Nothing heavy is imported here, and of its subcommands only those that are used."""

from __future__ import annotations

import os
import sys

from geomatch.cli.console import run_command
from geomatch.cli.front_page import COMMANDS, front_page, terminal_width
from geomatch.errors import InputError


def main() -> None:
    """Entry point: exit status 2 for usage and bad input, 1 for failure, 130 for Ctrl-C."""
    sys.exit(run_command(_run))


def _run() -> int:
    words = sys.argv[1:]
    completing = "_GEOMATCH_COMPLETE" in os.environ
    if words in ([], ["-h"], ["--help"]) and not completing:
        print(front_page(terminal_width()))
        return 0 if words else InputError.exit_code
    from geomatch.cli.usage import make_app, run_typer

    return run_typer(make_app(words[:1] if words and words[0] in COMMANDS and not completing else COMMANDS))
