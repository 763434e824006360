"""`geomatch view`: two images to one page on which their match can be explored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geomatch.cli.console import status_line
from geomatch.cli.inputs import read_mask_option
from geomatch.cli.options import (
    DEFAULTS,
    Overwrite,
    PipelineOptions,
    Quiet,
    SourceMask,
    TargetMask,
    pipeline_options,
)
from geomatch.cli.output import print_record


@pipeline_options(
    *["features", "matcher", "parameters", "preset", "weights", "device", "precision"],
    *["max_memory", "min_confidence", "refine", "mirror"],
)
def view(
    source: Annotated[Path, typer.Argument(help="The first picture.", show_default=False)],
    target: Annotated[Path, typer.Argument(help="The second picture.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE.html", help="Page to write, - for stdout; by default SOURCE--TARGET.html."
        ),
    ] = None,
    pipeline: PipelineOptions = DEFAULTS,
    source_mask: SourceMask = None,
    target_mask: TargetMask = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write a page that shows the match of any position in either picture.

    One HTML file that loads nothing: hover, tap or use the arrow keys; see similarity, confidence, validity and flow in
    colours; morph the source into the warped target. Prints the record of the match as one line of JSON, or a summary
    on a terminal.
    """
    from geomatch.batch.masks import Masks
    from geomatch.batch.match_pairs import ImagePair, PairMatcher
    from geomatch.batch.match_record import Outputs, match_outcome
    from geomatch.io.atomic import STDOUT, check_output, write_atomically
    from geomatch.io.inputs import called, stem_of
    from geomatch.matching.mirror import matched_source
    from geomatch.runtime.timer import Timer
    from geomatch.visualize.pair_view.page import view_page

    page_file = output or Path(f"{stem_of(source)}--{stem_of(target)}.html")
    check_output(page_file, overwrite=overwrite, suffixes=(".html", ".htm"))
    masks = Masks(read_mask_option(source_mask), read_mask_option(target_mask))
    with status_line("reading", quiet=quiet) as status:
        timer = Timer(on_stage=status)
        pair = ImagePair(source, target, page_file)
        matcher = PairMatcher([pair], pipeline.build, Outputs(()), timer=timer)
        first, second = matcher.extract(pair)
        with timer.stage("matching"):
            both_ways = matcher.pipeline.match_both_ways(
                first.features, second.features, source_mask=masks.source, target_mask=masks.target
            )
        record = match_outcome(first.file, second.file, matcher.pipeline, both_ways[0])
        with timer.stage("drawing"):
            page = view_page(
                [Path(called(image)).name for image in pair.images],
                [matcher.images.get(image).pixels for image in pair.images],
                matcher.pipeline.upsample(matched_source(first.features, both_ways[0].mirror), second.features),
                both_ways,
                _facts(record),
            ).encode(errors="replace")  # file names need not be text
        write_atomically(page_file, page)
    if page_file == STDOUT:
        return
    record |= masks.record() | {"seconds": timer.record(), "output": str(page_file), "bytes": len(page)}
    print_record(record, f"{page_file}: {len(page) / 1e6:.1f} MB; open it in a browser")


def _facts(record: dict[str, object]) -> list[str]:
    """The facts about the match in the head of the page."""
    return [
        f"{record['valid_share']:.0%} of the source matched validly",
        f"mean confidence {record['mean_confidence']:.2f}",
        *(["the source was flipped left to right for matching"] if record.get("mirrored") else []),
        f"{record['features']}, {record['matcher']}, {record['preset']}",
        f"geomatch {record['version']}",
    ]
