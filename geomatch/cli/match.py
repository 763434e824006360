"""`geomatch match`: two images to flow, warp and confidence."""

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
from geomatch.settings import Device, FlowFormat, Preset


def match(
    source: Annotated[Path, typer.Argument(help="The image whose every pixel is looked up.", show_default=False)],
    target: Annotated[Path, typer.Argument(help="The image it is looked up in.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder to write; by default SOURCE--TARGET.")
    ] = None,
    features: Features = None,
    matcher: MatcherName = None,
    parameters: Parameters = None,
    preset: PresetChoice = Preset.default,
    weights: WeightsFile = None,
    formats: Annotated[list[FlowFormat], typer.Option("--format", help="Flow file to write; repeatable.")] = [  # noqa: B006 (Typer copies it)
        FlowFormat.flo
    ],
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, metavar="P", help="Confidence that a match needs to be valid.")
    ] = 0.0,
    device: DeviceChoice = Device.auto,
    max_memory: MaxMemory = "2GiB",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a folder that exists.")] = False,
    quiet: Quiet = False,
) -> None:
    """Find for every pixel of SOURCE the place in TARGET that means the same.

    Writes flow.flo, warped.png, confidence.png, overview.png and match.json, and regions.json with a matcher of boxes;
    prints the record as one line of JSON, or a summary on a terminal.
    """
    from geomatch.io.atomic import check_new_folder, write_folder_atomically
    from geomatch.io.images import load_image
    from geomatch.pipeline import Pipeline
    from geomatch.record import match_files, match_record, to_json
    from geomatch.timing import Stopwatch

    folder = output or Path(f"{source.stem}--{target.stem}")
    watch = Stopwatch()
    with stderr_console(quiet=quiet).status("reading") as status:
        with watch.stage("reading"):
            images = load_image(source), load_image(target)
        check_new_folder(folder, overwrite=overwrite)
        status.update("loading weights")
        with watch.stage("loading"):
            pipeline = Pipeline.build(
                features=features,
                matcher=matcher,
                parameters=parse_parameters(parameters or []),
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
            correspondence = pipeline.match(*described)
        status.update("writing")
        with watch.stage("drawing"):
            files = match_files(*images, correspondence, formats)
        record = match_record(source, target, pipeline, correspondence)
        record |= {"preset": preset, "seconds": watch.record(), "output": str(folder), "files": sorted(files)}
        write_folder_atomically(folder, files | {"match.json": to_json(record, indent=2).encode() + b"\n"})
    if quiet:
        return
    if sys.stdout.isatty():
        seconds = sum(watch.seconds.values())
        typer.echo(
            f"{folder}: {record['valid_share']:.0%} of the pixels matched validly, "
            f"mean confidence {record['mean_confidence']:.2f}, {seconds:.1f} s"
        )
    else:
        typer.echo(to_json(record))
