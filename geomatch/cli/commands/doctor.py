"""`geomatch doctor`: check the installation."""

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
    """Check the installation: versions, devices, weights, optional packages, and a small match.

    The match is of a synthetic picture with a known warp of it. The exit status is 1 if a check fails; optional
    packages may be absent.
    """
    from geomatch.doctor import State, check_installation

    with stderr_console().status("checking"):
        findings = list(check_installation(device))
    failed = [f"{finding.area} {finding.name}" for finding in findings if finding.state is State.failed]
    if json:
        _print_json(findings, healthy=not failed)
    elif sys.stdout.isatty():
        _print_table(findings)
    else:
        for finding in findings:
            typer.echo(f"{finding.state:<8}{finding.area:<11}{finding.name:<15}{finding.detail}")
    if failed:
        raise GeomatchError(f"checks failed: {', '.join(failed)}")


def _print_json(findings: Sequence[Finding], *, healthy: bool) -> None:
    from geomatch.io.json_text import json_text

    records = [
        {"about": finding.area, "name": finding.name, "state": finding.state, "said": finding.detail}
        for finding in findings
    ]
    typer.echo(json_text({"healthy": healthy, "findings": records}))


def _print_table(findings: Sequence[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {"ok": "green", "absent": "yellow", "failed": "bold red"}
    table = Table.grid(padding=(0, 2))
    for last, finding in zip([None, *findings], findings, strict=False):
        area = "" if last is not None and last.area == finding.area else finding.area
        state = Text(finding.state, style=colours[finding.state])
        table.add_row(Text(area, style="bold"), Text(finding.name), state, Text(finding.detail, overflow="fold"))
    Console().print(table)
