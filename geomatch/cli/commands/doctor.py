"""`geomatch doctor`: whether this installation is well."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from geomatch.cli.console import stderr_console
from geomatch.cli.options import DeviceChoice
from geomatch.errors import GeomatchError
from geomatch.options import Device

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geomatch.doctor import Finding


def doctor(
    device: DeviceChoice = Device.auto,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object, not a table.")] = False,
) -> None:
    """Look whether this installation is well: versions, devices, weights, what is optional, and a small match.

    The match is of a made picture with a warp of it that is known. The exit status is 1 if something is not as it
    should be; what is optional may be absent.
    """
    from geomatch.doctor import State, examine

    with stderr_console().status("looking"):
        findings = list(examine(device))
    failed = [f"{finding.about} {finding.name}" for finding in findings if finding.state is State.failed]
    if json:
        _print_json(findings, healthy=not failed)
    elif sys.stdout.isatty():
        _print_table(findings)
    else:
        for finding in findings:
            typer.echo(f"{finding.state:<8}{finding.about:<11}{finding.name:<15}{finding.said}")
    if failed:
        raise GeomatchError(f"not well: {', '.join(failed)}")


def _print_json(findings: Sequence[Finding], *, healthy: bool) -> None:
    from dataclasses import asdict
    from json import dumps

    typer.echo(dumps({"healthy": healthy, "findings": [asdict(finding) for finding in findings]}, ensure_ascii=False))


def _print_table(findings: Sequence[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {"ok": "green", "absent": "yellow", "failed": "bold red"}
    table = Table.grid(padding=(0, 2))
    for last, finding in zip([None, *findings], findings, strict=False):
        about = "" if last is not None and last.about == finding.about else finding.about
        state = Text(finding.state, style=colours[finding.state])
        table.add_row(Text(about, style="bold"), Text(finding.name), state, Text(finding.said, overflow="fold"))
    Console().print(table)
