"""`geomatch view`: two images to one page on which their match can be explored."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from geomatch.cli.console import stderr_console
from geomatch.cli.options import (
    DeviceChoice,
    Features,
    MatcherName,
    MaxMemory,
    Parameters,
    PresetChoice,
    Quiet,
    WeightsFile,
    parse_parameters,
    parse_size,
)
from geomatch.errors import InputError
from geomatch.options import Device, Preset


def view(
    source: Annotated[Path, typer.Argument(help="The first picture.", show_default=False)],
    target: Annotated[Path, typer.Argument(help="The second picture.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.html", help="Page to write; by default SOURCE--TARGET.html."),
    ] = None,
    features: Features = None,
    matcher: MatcherName = None,
    parameters: Parameters = None,
    preset: PresetChoice = Preset.default,
    weights: WeightsFile = None,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, metavar="P", help="Confidence that a match needs to be valid.")
    ] = 0.0,
    device: DeviceChoice = Device.auto,
    max_memory: MaxMemory = "2GiB",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write over a file that exists.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write a page on which a place in either picture shows its match in the other.

    One HTML file that loads nothing: hover, tap or use the arrow keys; see similarity, confidence, validity and flow in
    colours; morph the source into the warped target. Prints the record of the match as one line of JSON, or a summary
    on a terminal.
    """
    from geomatch.batch.match_record import match_outcome, to_json
    from geomatch.io.atomic import write_atomically
    from geomatch.io.images import read_image
    from geomatch.pipeline import Pipeline
    from geomatch.runtime.timer import Timer
    from geomatch.visualize.pair_view.page import view_page

    page_file = output or Path(f"{source.stem}--{target.stem}.html")
    watch = Timer()
    with stderr_console(quiet=quiet).status("reading") as status:
        with watch.stage("reading"):
            read = [read_image(path) for path in (source, target)]
            images = [image.pixels for image in read]
        _check_output(page_file, overwrite=overwrite)
        status.update("loading weights")
        with watch.stage("loading"):
            pipeline = Pipeline.build(
                features=features,
                matcher=matcher,
                parameters=parse_parameters(parameters, matcher, preset),
                preset=preset,
                weights=weights,
                device=device,
                max_memory=parse_size(max_memory),
                min_confidence=min_confidence,
            )
        status.update("describing")
        with watch.stage("features"):
            described = [pipeline.describe(image) for image in images]
        status.update("matching")
        with watch.stage("matching"):
            there, back = pipeline.match(*described), pipeline.match(*reversed(described))
        status.update("writing")
        inputs = [(image.path, image.sha256) for image in read]
        record = match_outcome(inputs[0], inputs[1], pipeline, there, preset.value)
        with watch.stage("drawing"):
            page = view_page(
                [source.name, target.name], images, pipeline.matcher.refine(*described), [there, back], _facts(record)
            ).encode(errors="replace")  # names of files need not be text
        write_atomically(page_file, page)
    if quiet:
        return
    if sys.stdout.isatty():
        typer.echo(f"{page_file}: {len(page) / 1e6:.1f} MB; open it in a browser")
    else:
        typer.echo(to_json(record | {"seconds": watch.record(), "output": str(page_file), "bytes": len(page)}))


def _check_output(page: Path, *, overwrite: bool) -> None:
    """Raises InputError if the page cannot be written there."""
    from geomatch.io.atomic import check_new_file

    if page.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{page}: the page is HTML; give -o a name that ends in .html")
    check_new_file(page, overwrite=overwrite)


def _facts(record: dict[str, object]) -> list[str]:
    """What the page says of the match in its head."""
    return [
        f"{record['valid_share']:.0%} of the source matched validly",
        f"mean confidence {record['mean_confidence']:.2f}",
        f"{record['features']}, {record['matcher']}, {record['preset']}",
        f"geomatch {record['version']}",
    ]
