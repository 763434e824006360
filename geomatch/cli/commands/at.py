"""`geomatch at`: where points of one image lie in another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geomatch.cli.console import status_line
from geomatch.cli.inputs import read_mask_option
from geomatch.cli.options import DEFAULTS, PipelineOptions, SourceMask, TargetMask, pipeline_options
from geomatch.cli.output import print_record
from geomatch.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from geomatch.io.tables import Row

COLUMNS = ("x", "y")


@pipeline_options(
    *["features", "matcher", "parameters", "preset", "weights", "refine", "zoom"],
    *["device", "precision", "max_memory", "mirror"],
)
def at(
    source: Annotated[Path, typer.Argument(help="The image with the points.", show_default=False)],
    target: Annotated[Path, typer.Argument(help="The image in which to find them.", show_default=False)],
    point: Annotated[
        list[str] | None, typer.Option("--point", metavar="X,Y", help="A point of SOURCE, in pixels; repeatable.")
    ] = None,
    points: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Points of SOURCE, one x,y a line, or a CSV or JSON lines with x and y; - reads stdin."
        ),
    ] = None,
    pipeline: PipelineOptions = DEFAULTS,
    source_mask: SourceMask = None,
    target_mask: TargetMask = None,
) -> None:
    """Print where points of SOURCE lie in TARGET, with confidence and validity.

    Prints one line of JSON per point, in the order given: x and y in SOURCE, to_x and to_y in TARGET, in pixels with
    pixel centres at integers; confidence; valid; and the other columns of the points' table.
    """
    from geomatch.batch.match_record import mirror_record
    from geomatch.io.images import load_image

    rows = _rows(point or [], points)
    parts = read_mask_option(source_mask), read_mask_option(target_mask)
    with status_line("reading") as status:
        images = load_image(source), load_image(target)
        places = _places(rows, source, (images[0].shape[1], images[0].shape[2]))
        status("loading weights")
        loaded = pipeline.build()
        status("matching")
        found = loaded.match(*images, source_mask=parts[0], target_mask=parts[1])
        mapped, mirror = found.map_points(places), mirror_record(found)
    results = (places, mapped.positions.round(2), mapped.confidence.round(4), mapped.valid)
    for row, (x, y), (to_x, to_y), confidence, valid in zip(rows, *(each.tolist() for each in results), strict=True):
        others = {name: text for name, text in row.fields.items() if name not in COLUMNS}
        record = {"x": x, "y": y, "to_x": to_x, "to_y": to_y, "confidence": confidence, "valid": valid}
        note = "" if valid else ", not valid"
        summary = f"{x:g}, {y:g}  ->  {to_x:.1f}, {to_y:.1f}   confidence {confidence:.2f}{note}"
        print_record(others | record | mirror, summary)


def _rows(point: list[str], points: Path | None) -> list[Row]:
    """The points as rows of text. Raises InputError."""
    from geomatch.io.annotations.csv_table import POINT_LAYOUT
    from geomatch.io.tables import Layout, read_table

    rows = [_point_row(text) for text in point]
    if points is not None:
        rows += read_table(points, Layout(COLUMNS, bare=POINT_LAYOUT.bare))
    if not rows:
        raise InputError("no points; give --point X,Y, or --points FILE with x,y on each line")
    return rows


def _point_row(text: str) -> Row:
    """The point that ``--point`` gave. Raises InputError for anything but two numbers."""
    from geomatch.io.tables import Row

    values = [value.strip() for value in text.split(",")]
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        numbers = []
    if len(numbers) != len(COLUMNS):
        raise InputError(f"--point {text}: write it as X,Y, two numbers in pixels with a comma, as 12.5,85")
    return Row(f"--point {text}", COLUMNS, values)


def _places(rows: list[Row], source: Path, size: tuple[int, int]) -> NDArray[np.float64]:
    """The points (K, 2). Raises InputError for one that is not a point, or outside an image of (height, width)."""
    import numpy as np

    height, width = size
    places = [(row.position("x"), row.position("y")) for row in rows]
    for row, (x, y) in zip(rows, places, strict=True):
        if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
            where = f"outside {source}, which is {width}x{height} pixels"
            raise InputError(f"{row.origin}: the point ({x:g}, {y:g}) lies {where}")
    return np.array(places, dtype=np.float64)
