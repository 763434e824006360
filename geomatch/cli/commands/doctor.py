"""`geomatch doctor`: check the installation."""

from __future__ import annotations

from typing import Annotated

import typer

from geomatch.cli.console import status_line
from geomatch.cli.options import DeviceChoice
from geomatch.cli.output import print_json
from geomatch.errors import GeomatchError
from geomatch.options import Device

COLOURS = {"ok": "green", "absent": "yellow", "failed": "red"}


def doctor(
    device: DeviceChoice = Device.auto,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object, not a table.")] = False,
) -> None:
    """Check the installation: versions, devices, weights, optional packages, and a small match.

    The match is of a synthetic picture with a known warp of it. The exit status is 1 if a check fails; optional
    packages may be absent.
    """
    from geomatch.doctor import State, check_installation

    with status_line("checking"):
        findings = list(check_installation(device))
    failed = [f"{finding.area} {finding.name}" for finding in findings if finding.state is State.failed]
    if json:
        records = [
            {"about": finding.area, "name": finding.name, "state": finding.state, "said": finding.detail}
            for finding in findings
        ]
        print_json({"healthy": not failed, "findings": records})
    else:
        for finding in findings:
            # Typer drops the colours where stdout is not a terminal.
            state = typer.style(f"{finding.state:<8}", fg=COLOURS[finding.state])
            typer.echo(f"{state}{finding.area:<11}{finding.name:<15}{finding.detail}")
    if failed:
        raise GeomatchError(f"checks failed: {', '.join(failed)}")
