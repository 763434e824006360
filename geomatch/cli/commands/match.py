"""`geomatch match`: two images, or many pairs of them, to flow, warp and confidence."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geomatch.cli.console import status_line
from geomatch.cli.inputs import PathPair, choose_pairs
from geomatch.cli.options import DEFAULTS, OUTPUT, Overwrite, PipelineOptions, Quiet, pipeline_options
from geomatch.cli.output import print_record
from geomatch.cli.report import ItemReport, report_items
from geomatch.errors import InputError
from geomatch.options import FlowFormat

if TYPE_CHECKING:
    from geomatch.batch.match_record import Outputs

STDOUT = Path("-")
LOW_CONFIDENCE = 0.1
"""Mean confidence below which the two images may have nothing in common."""
_MANY = "Many pairs"


@pipeline_options(
    *["features", "matcher", "parameters", "preset", "weights", "device", "precision"],
    *["max_memory", "min_confidence", "refine", "cache", "mirror"],
)
def match(
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="SOURCE TARGET",
            help="The image whose pixels are matched, and the image they are matched with. With --against any number "
            "of targets, also a folder of them, or - to read their names from stdin.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Folder to write, by default SOURCE--TARGET; for many pairs, the folder of their folders. - sends the "
            "flow of a single pair, and nothing else, to stdout.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    formats: Annotated[
        list[FlowFormat],
        typer.Option(
            "--format", metavar="|".join(FlowFormat), help="Flow file to write; repeatable.", rich_help_panel=OUTPUT
        ),
    ] = [FlowFormat.flo],  # noqa: B006 (Typer copies it)
    pictures: Annotated[
        bool,
        typer.Option(help="Write warp, confidence and overview: most of the time.", rich_help_panel=OUTPUT),
    ] = True,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    pipeline: PipelineOptions = DEFAULTS,
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
    null: Annotated[
        bool,
        typer.Option("--null", "-0", help="Names on stdin end in NUL, as find -print0's.", rich_help_panel=_MANY),
    ] = False,
) -> None:
    """Find the corresponding position in TARGET for every pixel of SOURCE.

    Writes flow.flo, warped.png, confidence.png, overview.png, match.json, and
    regions.json with matchers of boxes. Prints a line of JSON, or a summary.

    For many pairs, prints a line for each, also if it fails; the exit status is
    1 if any failed. Under torchrun each process takes its part of the list.
    """
    many = choose_pairs(images or [], pairs=pairs, against=against, all_pairs=all_pairs, null=null)
    if many is None and len(images or []) != 2:
        raise InputError("give two images, SOURCE and TARGET; for many pairs see --pairs, --against and --all-pairs")
    _check_output(output, formats, many=many is not None, resume=resume, overwrite=overwrite)
    pipeline.check()
    from geomatch.batch.match_record import Outputs

    outputs = Outputs([each.value for each in dict.fromkeys(formats)], pictures)
    if many is not None:
        assert output is not None, "_check_output refuses many pairs without a folder"
        _match_many(many, pipeline, outputs, output, against, resume=resume, overwrite=overwrite, quiet=quiet)
    else:
        assert images is not None, "there are two"
        _match_one(images[0], images[1], pipeline, outputs, output, overwrite=overwrite, quiet=quiet)


def _check_output(output: Path | None, formats: list[FlowFormat], *, many: bool, resume: bool, overwrite: bool) -> None:
    if many and output is None:
        raise InputError("many pairs need a folder for their results: give one with -o")
    if many and output == STDOUT:
        raise InputError("-o - takes the flow of one pair alone; give a folder with -o for many")
    if resume and not many:
        raise InputError("--resume is for many pairs; use --overwrite to match two images again")
    if resume and overwrite:
        raise InputError("--resume keeps what is valid and --overwrite does all again: give one of them")
    if output == STDOUT and len(formats) > 1:
        raise InputError("-o - takes one flow: give one --format")
    if output == STDOUT and sys.stdout.isatty():
        raise InputError("-o - sends a binary file to stdout, which is a terminal; send it to a file or a pipe")


def _match_many(
    pairs: list[PathPair],
    options: PipelineOptions,
    outputs: Outputs,
    folder: Path,
    against: Path | None,
    *,
    resume: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Match this process's share of the pairs, and report each as it is finished.

    Raises GeomatchError at once if the source ``against`` of all pairs cannot be used, and at the end if any failed.
    """
    from geomatch.batch.match_pairs import PairMatcher, assign_folders, prepare_folders
    from geomatch.runtime.device import assign_gpu
    from geomatch.runtime.shard import Shard

    shard = Shard.from_environment()
    mine = shard.part(assign_folders(pairs, folder))
    assign_gpu()
    matcher = PairMatcher(mine, options.build, outputs, resume=resume)
    matcher.prepare(() if against is None else (against,))
    prepare_folders(mine, folder, overwrite=overwrite or resume)
    report = ItemReport("matching", "pair", lambda record: f"{record['source']}, {record['target']}", outcome)
    report_items(matcher.all(), report, len(mine), shard, quiet=quiet)


def _match_one(
    source: Path,
    target: Path,
    options: PipelineOptions,
    outputs: Outputs,
    output: Path | None,
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Match a list of one pair; what goes wrong is raised, not reported in a line."""
    from geomatch.batch.match_pairs import ImagePair, PairMatcher
    from geomatch.io.atomic import check_new_folder
    from geomatch.io.flow import FILE_NAMES
    from geomatch.io.inputs import stem_of
    from geomatch.runtime.timer import Timer

    pair = ImagePair(source, target, output or Path(f"{stem_of(source)}--{stem_of(target)}"))
    if output != STDOUT:
        check_new_folder(pair.folder, overwrite=overwrite)
    with status_line("reading", quiet=quiet) as status:
        matcher = PairMatcher([pair], options.build, outputs, timer=Timer(on_stage=status))
        if output == STDOUT:
            _, files = matcher.match(pair)
            sys.stdout.buffer.write(files[FILE_NAMES[outputs.formats[0]]])
            sys.stdout.buffer.flush()
            return
        finished = matcher(pair)
    if finished.error:
        raise finished.error
    seconds = sum(finished.record["seconds"].values())
    print_record(finished.record, f"{outcome(finished.record)}, {seconds:.1f} s")


def outcome(record: Mapping[str, Any]) -> str:
    """The outcome of a match, for a terminal."""
    confidence = record["mean_confidence"]
    note = " (low: are the objects of one kind?)" if confidence < LOW_CONFIDENCE else ""
    return (
        f"{record['output']}: {record['valid_share']:.0%} of the pixels matched validly, "
        f"mean confidence {confidence:.2f}{note}"
    )
