"""`geomatch match`: two images, or many pairs of them, to flow, warp and confidence."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geomatch.cli.batch import chosen_pairs, match_many, outcome
from geomatch.cli.console import stderr_console
from geomatch.cli.options import (
    CacheFolder,
    DeviceChoice,
    Features,
    MatcherName,
    MaxMemory,
    Overwrite,
    Parameters,
    PresetChoice,
    Quiet,
    WeightsFile,
    parse_parameters,
    parse_size,
)
from geomatch.errors import InputError
from geomatch.options import Device, FlowFormat, Preset

if TYPE_CHECKING:
    from collections.abc import Callable

    from geomatch.batch.match_record import Wanted
    from geomatch.pipeline import Pipeline

STDOUT = Path("-")
_MANY = "Many pairs"


def match(
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="SOURCE TARGET",
            help="The image whose every pixel is looked up, and the one it is looked up in. With --against any number "
            "of targets, or - to read their names from stdin.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Folder to write, by default SOURCE--TARGET; of many pairs, the folder for theirs. - sends a single "
            "pair's flow, and nothing else, to stdout.",
        ),
    ] = None,
    features: Features = None,
    matcher: MatcherName = None,
    parameters: Parameters = None,
    preset: PresetChoice = Preset.default,
    weights: WeightsFile = None,
    formats: Annotated[list[FlowFormat], typer.Option("--format", help="Flow file to write; repeatable.")] = [  # noqa: B006 (Typer copies it)
        FlowFormat.flo
    ],
    pictures: Annotated[
        bool, typer.Option(help="Write warp, confidence and overview, which take longer than the match.")
    ] = True,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, metavar="P", help="Confidence that a match needs to be valid.")
    ] = 0.0,
    device: DeviceChoice = Device.auto,
    max_memory: MaxMemory = "2GiB",
    cache: CacheFolder = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Pairs to match, a list in TSV, CSV or JSON lines; - reads it from stdin.",
            rich_help_panel=_MANY,
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="SOURCE", help="One source to match with each of the images.", rich_help_panel=_MANY),
    ] = None,
    all_pairs: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Each image of a folder with each other, both ways.", rich_help_panel=_MANY),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Skip pairs whose result is there and valid.", rich_help_panel=_MANY)
    ] = False,
) -> None:
    """Find for every pixel of SOURCE the place in TARGET that means the same.

    Writes flow.flo, warped.png, confidence.png, overview.png and match.json, and regions.json with a matcher of boxes;
    prints the record as one line of JSON, or a summary on a terminal.

    Of many pairs it prints one line as each is finished, also of those that fail, and goes on; the exit status is 1 if
    any failed. Under torchrun each process takes its part of the list.
    """
    many = chosen_pairs(images or [], pairs=pairs, against=against, all_pairs=all_pairs)
    if many is None and len(images or []) != 2:
        raise InputError("give two images, SOURCE and TARGET; for many pairs see --pairs, --against and --all-pairs")
    _check_output(output, formats, many=many is not None, resume=resume, overwrite=overwrite)
    options = parse_parameters(parameters, matcher, preset), parse_size(max_memory)

    def build() -> Pipeline:
        from geomatch.pipeline import Pipeline

        return Pipeline.build(
            features=features,
            matcher=matcher,
            parameters=options[0],
            preset=preset,
            weights=weights,
            device=device,
            max_memory=options[1],
            min_confidence=min_confidence,
            cache=cache,
        )

    from geomatch.batch.match_record import Wanted

    wanted = Wanted([each.value for each in dict.fromkeys(formats)], pictures, preset.value)
    if many is not None:
        assert output is not None, "that was checked"
        match_many(many, build, wanted, output, resume=resume, overwrite=overwrite, quiet=quiet)
    else:
        assert images is not None, "so was this"
        _match_one(images[0], images[1], build, wanted, output, overwrite=overwrite, quiet=quiet)


def _check_output(output: Path | None, formats: list[FlowFormat], *, many: bool, resume: bool, overwrite: bool) -> None:
    if many and output is None:
        raise InputError("many pairs need a folder for their results: give one with -o")
    if many and output == STDOUT:
        raise InputError("-o - takes the flow of one pair alone; give a folder with -o for many")
    if resume and not many:
        raise InputError("--resume is for many pairs; use --overwrite to match two images anew")
    if resume and overwrite:
        raise InputError("--resume keeps what is valid and --overwrite does all anew: give one of them")
    if output == STDOUT and len(formats) > 1:
        raise InputError("-o - takes one flow: give one --format")
    if output == STDOUT and sys.stdout.isatty():
        raise InputError("-o - sends a binary file to stdout, which is a terminal; send it to a file or a pipe")


def _match_one(
    source: Path,
    target: Path,
    build: Callable[[], Pipeline],
    wanted: Wanted,
    output: Path | None,
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
    from geomatch.batch.match_record import flow_files, match_record, picture_files, to_json, write_match
    from geomatch.io.atomic import check_new_folder
    from geomatch.io.images import read_image
    from geomatch.runtime.timer import Timer

    folder = output or Path(f"{source.stem}--{target.stem}")
    watch = Timer()
    with stderr_console(quiet=quiet).status("reading") as status:
        with watch.stage("reading"):
            images = [read_image(path) for path in (source, target)]
        if folder != STDOUT:
            check_new_folder(folder, overwrite=overwrite)
        status.update("loading weights")
        with watch.stage("loading"):
            pipeline = build()
        status.update("describing")
        with watch.stage("features"):
            described = [pipeline.describe(image.pixels) for image in images]
        status.update("matching")
        with watch.stage("matching"):
            found = pipeline.match(*described)
        if folder == STDOUT:
            sys.stdout.buffer.write(next(iter(flow_files(found, wanted.formats).values())))
            sys.stdout.buffer.flush()
            return
        status.update("writing")
        with watch.stage("drawing"):
            files = flow_files(found, wanted.formats)
            if wanted.pictures:
                files |= picture_files(images[0].pixels, images[1].pixels, found)
        inputs = [(image.path, image.sha256) for image in images]
        record = match_record(inputs[0], inputs[1], pipeline, found, wanted, folder, files)
        record["seconds"] = watch.record()
        write_match(folder, record, files)
    if quiet:
        return
    if sys.stdout.isatty():
        typer.echo(f"{outcome(record)}, {sum(watch.seconds.values()):.1f} s")
    else:
        typer.echo(to_json(record))
