"""`geomatch --help`, which is written without Typer, says what Typer knows."""

from pathlib import Path

import pytest
import typer

from geomatch.cli.front_page import COMMANDS, OPTIONS, SUMMARY, front_page
from geomatch.cli.usage import make_app
from tests.cli.command import geomatch


def test_front_page_agrees_with_typer() -> None:
    root = typer.main.get_command(make_app())
    known = {name: (command.help or "").split("\n\n")[0] for name, command in root.commands.items()}
    assert {name: command.summary for name, command in COMMANDS.items()} == {
        name: " ".join(text.split()) for name, text in known.items()
    }
    context = typer.Context(root, info_name="geomatch", **root.context_settings)
    records = dict(each.get_help_record(context) for each in root.get_params(context))
    assert {", ".join(sorted(name.split(", "))): text for name, text in records.items()} == OPTIONS


@pytest.mark.parametrize("columns", [20, 63, 80, 200])
def test_front_page_names_every_command_within_the_terminal(tmp_path: Path, columns: int) -> None:
    done = geomatch("--help", cwd=tmp_path, env={"COLUMNS": str(columns)})
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= max(60, columns)
    words = " ".join(done.stdout.split())
    for name, command in COMMANDS.items():
        assert f" {name} {command.summary}" in words
    assert SUMMARY in words
    assert done.stdout == front_page(columns) + "\n"


def test_only_the_command_that_is_used_is_imported() -> None:
    root = typer.main.get_command(make_app(["doctor"]))
    assert list(root.commands) == ["doctor"]
