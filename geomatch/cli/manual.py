"""`python -m geomatch.cli.manual > docs/manual.md`: every command and option, as the command line itself knows them."""

from __future__ import annotations

from collections.abc import Iterator

import typer
from typer.core import TyperGroup

from geomatch.cli.app import app

HEAD = """# Manual

Every command and option, made from the commands themselves by `make manual`. [Conventions](conventions.md) says, with
pictures, what the numbers and files that go in and out mean, and the exit statuses.
"""


def manual() -> str:
    """The page, in Markdown."""
    root = typer.main.get_command(app)
    commands = list(_commands(typer.Context(root, info_name="geomatch", **root.context_settings)))
    index = (f"* [`{each.command_path}`]({_anchor(each)}): {_about(each).splitlines()[0]}" for each in commands)
    return "\n".join([HEAD, *index, *map(_section, commands)])


def _commands(context: typer.Context) -> Iterator[typer.Context]:
    """A command and all below it, each in a context that knows its path."""
    yield context
    if isinstance(context.command, TyperGroup):
        for name, command in context.command.commands.items():
            yield from _commands(typer.Context(command, parent=context, info_name=name))


def _section(context: typer.Context) -> str:
    usage = " ".join([context.command_path, *context.command.collect_usage_pieces(context)])
    records = (parameter.get_help_record(context) for parameter in context.command.get_params(context))
    parameters = "\n".join(f"* `{record[0]}`: {record[1]}" for record in records if record)
    return f"\n## {context.command_path}\n\n{_about(context)}\n\n```\n{usage}\n```\n\n{parameters}"


def _about(context: typer.Context) -> str:
    return context.command.help or ""


def _anchor(context: typer.Context) -> str:
    return "#" + context.command_path.replace(" ", "-")


if __name__ == "__main__":
    print(manual())
