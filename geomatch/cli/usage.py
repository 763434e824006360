"""The Typer application, what is wrong with a command line in the style of all other errors, and help without what says
nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated, Any

import typer

from geomatch import __version__
from geomatch.cli.front_page import COMMANDS, OPTIONS, SUMMARY
from geomatch.errors import InputError, unknown_name
from geomatch.runtime.launcher import process_number

# Typer has no public name for the base of its errors: what a user typed wrongly.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
_OUTPUTS = frozenset({"output", "out"})
_CHOICE = re.compile(
    r"Invalid value for '(?P<option>.*?)': .*?'(?P<value>.*)' is not one of (?P<known>'.*')", re.DOTALL
)
_COMMAND = re.compile(r"(?P<unknown>No such command '.*')\. Did you mean (?P<similar>'.*')\?", re.DOTALL)
_OPTIONS = re.compile(r"No such option: (?P<given>.*) \(Possible options: (?P<similar>.*)\)", re.DOTALL)


def make_app(names: Iterable[str] = tuple(COMMANDS)) -> typer.Typer:
    """The application with these commands, whose modules are imported."""
    app = typer.Typer(
        name="geomatch",
        help=SUMMARY,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        callback=_main,
    )
    for name in names:
        module, _, attribute = COMMANDS[name].target.partition(":")
        command = getattr(import_module(module), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"geomatch {__version__}")
        raise typer.Exit


def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help=OPTIONS["--version"])
    ] = False,
) -> None: ...


def run_typer(app: typer.Typer) -> int:
    """Run a Typer application on the command line; its exit status.

    Raises:
        InputError: for a command line that Typer refuses, in one sentence.
        KeyboardInterrupt: for Ctrl-C.
    """
    command = typer.main.get_command(app)
    hide_types(command)
    share_stdin(command)
    try:
        status = command(prog_name="geomatch", standalone_mode=False)
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except _UsageError as error:
        if not str(error).strip():  # the help was asked for by giving nothing, and is printed
            return InputError.exit_code
        raise InputError(_sentence(error)) from error
    return status if isinstance(status, int) else 0


def _sentence(error: Any) -> str:
    message = error.format_message().strip().replace("Value error, ", "")
    if found := _CHOICE.search(message):
        known = [each.strip(" '.") for each in found["known"].split(",")]
        message = unknown_name(f"value of {found['option']}", found["value"], known)
    elif found := _OPTIONS.search(message):
        message = f"no such option: {found['given']} (did you mean {found['similar']}?)"
    elif found := _COMMAND.search(message):
        message = f"{found['unknown']} (did you mean {found['similar']}?)"
    first, rest = message[:1], message[1:].rstrip(".")
    where = f"; see {error.ctx.command_path} --help" if error.ctx else ""
    return f"{first.lower()}{rest}{where}"


def hide_types(command: Any) -> None:
    """Leave the types of arguments and flags out of the help of a command and its subcommands: <list[Path]>, <bool>."""
    for parameter in command.params:
        if parameter.param_type_name == "argument" or getattr(parameter, "is_flag", False):
            parameter.display_type_rich = _nothing
    for each in getattr(command, "commands", {}).values():
        hide_types(each)


def share_stdin(command: Any) -> None:
    """Let a command and its subcommands refuse a ``-``, which is stdin, for more than one input or process."""
    invoke = command.invoke

    def checked(ctx: Any) -> Any:
        _check_stdin(ctx)
        return invoke(ctx)

    command.invoke = checked
    for each in getattr(command, "commands", {}).values():
        share_stdin(each)


def _check_stdin(ctx: Any) -> None:
    """Raise InputError if stdin cannot be what the command line makes of it. Of an output, ``-`` is stdout."""
    users = [
        max(parameter.opts, key=len)
        if parameter.param_type_name == "option"
        else parameter.metavar or parameter.name.upper()
        for parameter in ctx.command.params
        if parameter.name not in _OUTPUTS
        for value in _values(ctx.params.get(parameter.name))
        if str(value).rpartition("=")[2] == "-"  # NAME=FILE, too
    ]
    if len(users) > 1:
        given = ", ".join(dict.fromkeys(users))
        raise InputError(f"- is stdin, which can be one input only, and is given {len(users)} times ({given})")
    if users and process_number()[1] > 1:
        raise InputError(f"{users[0]} -: several processes cannot read one stdin; name files instead")


def _values(value: object) -> Iterable[object]:
    return value if isinstance(value, list | tuple) else (value,)


def _nothing(ctx: object) -> str:  # noqa: ARG001
    return ""
