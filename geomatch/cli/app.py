"""The `geomatch` command and its subcommands. Nothing heavy is imported here."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from geomatch import __version__
from geomatch.cli.commands import datasets, show, train
from geomatch.cli.commands.at import at
from geomatch.cli.commands.crops import crops
from geomatch.cli.commands.doctor import doctor
from geomatch.cli.commands.evaluate import evaluate
from geomatch.cli.commands.extract import extract
from geomatch.cli.commands.match import match
from geomatch.cli.commands.reproduce import reproduce
from geomatch.cli.commands.transfer import transfer
from geomatch.cli.commands.view import view
from geomatch.cli.console import run_command
from geomatch.cli.usage import run_typer

app = typer.Typer(
    name="geomatch",
    help="Dense correspondence between photographs of different objects of a kind.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(match)
app.command()(view)
app.command()(transfer)
app.command()(at)
app.command()(extract)
app.add_typer(train.app, name="train")
app.command("eval")(evaluate)
app.command()(reproduce)
app.command()(crops)
app.command()(train.convert)
app.add_typer(datasets.app, name="datasets")
app.add_typer(show.app, name="show")
app.command()(doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"geomatch {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None: ...


def main() -> None:
    """Entry point: exit status 2 for usage and bad input, 1 for failure, 130 for Ctrl-C."""
    sys.exit(run_command(lambda: run_typer(app)))
