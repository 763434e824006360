"""`python -m geomatch.cli.manual > docs/manual.md`: every command and option, as the command line itself knows them."""

from __future__ import annotations
import typer
from typer.cli import get_docs_for_click
from geomatch.cli.app import app

def manual() -> str:
    command = typer.main.get_command(app)
    return get_docs_for_click(obj=command, ctx=typer.Context(command), name="geomatch", title="Manual")

if __name__ == "__main__":
    print(manual())
