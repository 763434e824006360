"""`geomatch match`: two images, or many pairs of them, to flow, warp and confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geomatch.cli.console import counting_bar, status_line
from geomatch.cli.inputs import PathPair, choose_pairs, images_to_pair, read_mask_option
from geomatch.cli.options import (
    DEFAULTS,
    OUTPUT,
    THIS_PROCESS,
    EngineOptions,
    Overwrite,
    PipelineOptions,
    Quiet,
    SourceMask,
    TargetMask,
    engine_options,
    pipeline_options,
)
from geomatch.cli.output import print_record
from geomatch.cli.report import ItemReport, report_items
from geomatch.errors import InputError
from geomatch.io.atomic import STDOUT, check_output, write_atomically
from geomatch.io.remote.objects import disk_folder, url_of
from geomatch.options import DEFAULT_PICTURES, Flow, FlowFormat, Picture

if TYPE_CHECKING:
    from geomatch.batch.masks import Masks
    from geomatch.batch.match_pairs import MatchJob
    from geomatch.batch.match_record import Outputs
    from geomatch.runtime.engines.engine import Engine

LOW_CONFIDENCE = 0.1
"""Mean confidence below which the two images may have nothing in common."""
_MANY = "Many pairs"


@pipeline_options(
    *["features", "matcher", "parameters", "preset", "weights", "device", "precision"],
    *["max_memory", "min_confidence", "refine", "zoom", "batch", "cache", "mirror"],
)
@engine_options
def match(
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="SOURCE TARGET",
            help="The image whose pixels are matched, and the one they are matched with. With --against any number "
            "of targets, a folder, or - for names on stdin.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Folder to write, by default SOURCE--TARGET, or of many pairs' folders; - sends one pair's flow to "
            "stdout.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    formats: Annotated[
        list[FlowFormat],
        typer.Option(
            "--format",
            metavar="NAME",
            help=f"Flow file to write, {', '.join(FlowFormat)}; repeatable.",
            rich_help_panel=OUTPUT,
        ),
    ] = [FlowFormat.flo],  # noqa: B006 (Typer copies it)
    flow: Annotated[
        Flow,
        typer.Option(metavar="NAME", help="raw, or smooth: fitted to raw.", rich_help_panel=OUTPUT, show_default=False),
    ] = Flow.raw,
    pictures: Annotated[
        list[Picture] | None,
        typer.Option(
            "--picture",
            metavar="NAME",
            help=f"{', '.join(Picture)}; repeatable; by default the first three.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    no_pictures: Annotated[
        bool, typer.Option("--no-pictures", help="Write no pictures, only flow and record.", rich_help_panel=OUTPUT)
    ] = False,
    png_level: Annotated[
        int,
        typer.Option(
            min=0,
            max=9,
            metavar="N",
            help="Of pictures: 0 fast, 9 small.",
            rich_help_panel=OUTPUT,
        ),
    ] = 1,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    pipeline: PipelineOptions = DEFAULTS,
    engine: EngineOptions = THIS_PROCESS,
    source_mask: SourceMask = None,
    target_mask: TargetMask = None,
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
        typer.Option(metavar="DIR", help="Each two images of a folder, both ways.", rich_help_panel=_MANY),
    ] = None,
    neighbours: Annotated[
        int | None,
        typer.Option(min=1, metavar="K", help="Of --all-pairs, the K nearest of each image.", rich_help_panel=_MANY),
    ] = None,
    gallery: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Page to write, of all pairs with their pictures.", rich_help_panel=_MANY),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Skip pairs whose result is there and valid.", rich_help_panel=_MANY)
    ] = False,
    null: Annotated[
        bool,
        typer.Option("--null", "-0", help="Names on stdin end in NUL, of find -print0.", rich_help_panel=_MANY),
    ] = False,
) -> None:
    """Find the corresponding position in TARGET for every pixel of SOURCE.

    Writes flow.flo, warped.png, confidence.png, overview.png, match.json, and
    regions.json with matchers of boxes. Prints a line of JSON, or a summary.

    For many pairs, prints a line for each, also if it fails; the exit status is
    1 if any failed. Under torchrun each process takes its part of the list.
    """
    together = None
    if neighbours is not None:
        if all_pairs is None or pairs or against or images:
            raise InputError("--neighbours chooses among the pairs of --all-pairs DIR: give that, and no other images")
        together, all_pairs = images_to_pair(all_pairs), None
    many = choose_pairs(images or [], pairs=pairs, against=against, all_pairs=all_pairs, null=null)
    if many is None and together is None and len(images or []) != 2:
        raise InputError("give two images, SOURCE and TARGET; for many pairs see --pairs, --against and --all-pairs")
    if pictures and no_pictures:
        raise InputError("--picture and --no-pictures: give one of them")
    is_list = not (many is None and together is None)
    _check_output(output, formats, many=is_list, resume=resume, overwrite=overwrite)
    _check_gallery(gallery, output, many=is_list, replace=overwrite or resume)
    pipeline.check()
    if many is None and together is None and engine != THIS_PROCESS:
        raise InputError("--engine and --address are for many pairs: see --pairs, --against and --all-pairs")
    masks = _read_masks(source_mask, target_mask, many=is_list, shared=against)
    from geomatch.batch.match_record import Outputs

    wanted = frozenset() if no_pictures else frozenset(f"{name}.png" for name in pictures or DEFAULT_PICTURES)
    outputs = Outputs([each.value for each in dict.fromkeys(formats)], wanted, png_level, flow)
    if together is not None or many is not None:
        assert output is not None, "_check_output refuses many pairs without a folder"
        engines = engine.open(pipeline.device)
        how = _Batch(
            pipeline, outputs, output, engines, masks, gallery, resume=resume, overwrite=overwrite, quiet=quiet
        )
        if together is not None and neighbours is not None:
            _match_neighbours(together, neighbours, how)
        elif many is not None:
            _match_many(many, how.job(() if against is None else (against,)), how)
    else:
        assert images is not None, "there are two"
        _match_one(images[0], images[1], pipeline, outputs, output, masks, overwrite=overwrite, quiet=quiet)


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
    if output == STDOUT:
        check_output(STDOUT, overwrite=overwrite)


def _check_gallery(page: Path | None, output: Path | None, *, many: bool, replace: bool) -> None:
    if page is None:
        return
    if not many:
        raise InputError("--gallery shows many pairs: give it with --pairs, --against or --all-pairs")
    if page == STDOUT:
        raise InputError("--gallery -: the page links to the files of the pairs; give the name of a file")
    if url_of(page) or (output and url_of(output)):
        raise InputError("--gallery shows pictures on this machine: give files and folders, not URLs")
    check_output(page, overwrite=replace, suffixes=(".html", ".htm"))


def _read_masks(source: str | None, target: str | None, *, many: bool, shared: Path | None) -> Masks:
    """The masks of a pair. shared: the source of many pairs. Raises InputError if there are masks for other pairs."""
    if many and target is not None:
        raise InputError("--target-mask is of one image, and many pairs have many targets: match two images with it")
    if many and source is not None and shared is None:
        raise InputError("--source-mask is of one image: give it for two images, or with --against for their source")
    from geomatch.batch.masks import Masks

    return Masks(read_mask_option(source), read_mask_option(target))


@dataclass(frozen=True)
class _Batch:
    """What becomes of many pairs: how they are matched and by whom, what is written where, and what is said."""

    pipeline: PipelineOptions
    outputs: Outputs
    folder: Path
    engine: Engine
    masks: Masks
    gallery: Path | None
    resume: bool
    overwrite: bool
    quiet: bool

    def job(self, shared: Sequence[Path] = ()) -> MatchJob:
        """The work. shared: images of all pairs."""
        from geomatch.batch.match_pairs import MatchJob

        build, on_disk = self.pipeline.builder(self.engine), disk_folder(self.folder)
        return MatchJob(build, self.outputs, on_disk, self.resume, shared, masks=self.masks)


def _match_neighbours(images: list[Path], count: int, how: _Batch) -> None:
    """Match this process's share of each image's pairs with the ``count`` most similar ones."""
    from geomatch.batch.neighbours import find_neighbours
    from geomatch.io.atomic import check_new_folder
    from geomatch.runtime.device import assign_gpu

    check_new_folder(how.folder, overwrite=True)
    assign_gpu()
    job = how.job()
    with counting_bar("comparing", len(images), quiet=how.quiet) as advance:
        found = find_neighbours(images, job.build(), count, advance)
    # Another process extracts again: that takes less time than to send it everything.
    _match_many(found.pairs, job if how.engine.remote else replace(job, extracted=found.extracted), how)


def _match_many(pairs: Sequence[PathPair], job: MatchJob, how: _Batch) -> None:
    """Match this process's share of the pairs, and report each as it is finished.

    Raises GeomatchError at once if an image of all pairs cannot be used, and at the end if any pair failed.
    """
    from geomatch.batch.gallery import Gallery
    from geomatch.batch.match_pairs import assign_folders, prepare_folders
    from geomatch.runtime.device import assign_gpu
    from geomatch.runtime.shard import Shard

    shard = Shard.from_environment()
    mine = shard.part(assign_folders(pairs, how.folder))
    assign_gpu()
    prepare_folders(mine, how.folder, overwrite=how.overwrite or how.resume)
    report = ItemReport("matching", "pair", lambda record: f"{record['source']}, {record['target']}", outcome)
    finished = how.engine.run(job, mine)
    if how.gallery:
        finished = Gallery.of_share(how.gallery, shard).following(finished)
    report_items(finished, report, len(mine), shard, quiet=how.quiet)


def _match_one(
    source: Path,
    target: Path,
    options: PipelineOptions,
    outputs: Outputs,
    output: Path | None,
    masks: Masks,
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
        matcher = PairMatcher([pair], options.build, outputs, timer=Timer(on_stage=status), masks=masks)
        if output == STDOUT:
            _, files = matcher.match(pair)
            write_atomically(STDOUT, files[FILE_NAMES[outputs.formats[0]]])
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
