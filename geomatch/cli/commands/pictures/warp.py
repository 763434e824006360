"""`geomatch warp`: a saved flow applied to images, labels and points."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geomatch.cli.inputs import expand_names
from geomatch.cli.options import Overwrite, Quiet
from geomatch.cli.output import print_record
from geomatch.options import PointsOf, Warped


def warp(
    flow: Annotated[
        Path,
        typer.Argument(metavar="FLOW", help="The flow that `match` wrote, in any format.", show_default=False),
    ],
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Images of the target's size, folders of them, or tables of points, with columns x and y.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="PATH", help="File to write for one FILE, folder for several.", show_default=False
        ),
    ],
    kind: Annotated[
        Warped, typer.Option("--as", help="Read images bilinearly, or label maps and masks at the nearest pixel.")
    ] = Warped.image,
    points_of: Annotated[
        PointsOf, typer.Option(help="The image that points lie in; those of the target go against the flow.")
    ] = PointsOf.source,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Bring images of the TARGET of a match into the frame of its source.

    Images become PNG files of the source's size, transparent where the flow is not valid. Tables of points become
    JSON lines with to_x, to_y, confidence and valid.
    """
    del quiet  # its callback silences notes
    names = expand_names(files)
    from geomatch.batch.warp_files import is_table, map_table, warp_file
    from geomatch.io.atomic import check_new_file, check_new_folder, write_atomically, write_folder_atomically
    from geomatch.io.flow import read_flow
    from geomatch.io.inputs import stem_of
    from geomatch.io.names import unique_names

    one = len(names) == 1 and not files[0].is_dir()
    suffixes = [".jsonl" if is_table(name) else ".png" for name in names]
    if one:
        check_new_file(output, overwrite=overwrite, suffixes=(suffixes[0],))
    else:
        check_new_folder(output, overwrite=overwrite)
    field = read_flow(flow)
    contents = [map_table(field, each, points_of) if is_table(each) else warp_file(field, each, kind) for each in names]
    if one:
        write_atomically(output, contents[0])
    else:
        written = [name + suffix for name, suffix in zip(unique_names(map(stem_of, names)), suffixes, strict=True)]
        write_folder_atomically(output, dict(zip(written, contents, strict=True)))
    record = {"flow": str(flow), "output": str(output), "files": len(names)}
    print_record(record, f"{output}: {len(names)} {'file' if one else 'files'}")
