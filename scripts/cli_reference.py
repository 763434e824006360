"""Write docs/cli.md: every command and option, as the command line itself knows them.

python scripts/cli_reference.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import fill

import typer
from typer.core import TyperGroup

from geomatch.cli.usage import hide_types, make_app

PAGE = Path(__file__).parent.parent / "docs" / "cli.md"

HEAD = """# Commands

Every command and option. `make reference` writes this page from the commands themselves.
[Concepts](concepts.md) explains the numbers and files that go in and out, and the exit statuses.
"""


def cli_reference() -> str:
    """The page in Markdown."""
    root = typer.main.get_command(make_app())
    hide_types(root)
    commands = list(_commands(typer.Context(root, info_name="geomatch", **root.context_settings)))
    index = (_wrapped(f"* [`{each.command_path}`]({_anchor(each)}): {_summary(each)}") for each in commands)
    return "\n".join([HEAD, *index, *map(_section, commands)]) + "\n"


def _commands(context: typer.Context) -> Iterator[typer.Context]:
    """A command and all its subcommands, each in a context that knows its path."""
    yield context
    if isinstance(context.command, TyperGroup):
        for name, command in context.command.commands.items():
            yield from _commands(typer.Context(command, parent=context, info_name=name))


def _section(context: typer.Context) -> str:
    usage = " ".join([context.command_path, *context.command.collect_usage_pieces(context)])
    records = (parameter.get_help_record(context) for parameter in context.command.get_params(context))
    parameters = "\n".join(_wrapped(f"* `{record[0]}`: {record[1]}") for record in records if record)
    about = "\n\n".join(_wrapped(paragraph) for paragraph in (context.command.help or "").split("\n\n"))
    return f"\n## {context.command_path}\n\n{about}\n\n```\n{usage}\n```\n\n{parameters}"


def _wrapped(text: str) -> str:
    indent = "  " if text.startswith("* ") else ""
    return fill(text, 100, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _summary(context: typer.Context) -> str:
    return (context.command.help or "").partition("\n")[0]


def _anchor(context: typer.Context) -> str:
    return "#" + context.command_path.replace(" ", "-")


if __name__ == "__main__":
    PAGE.write_text(cli_reference(), encoding="utf-8")
