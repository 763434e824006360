"""`geomatch morph`: one image that turns into another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geomatch.cli.console import status_line
from geomatch.cli.options import DEFAULTS, OUTPUT, Overwrite, PipelineOptions, Quiet, pipeline_options
from geomatch.cli.output import print_record
from geomatch.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

    from geomatch.pipeline import Pipeline

_MOST_FRAMES = 10_000


@pipeline_options(
    *["features", "matcher", "parameters", "preset", "weights", "device", "precision"],
    *["max_memory", "refine", "zoom", "mirror"],
)
def morph(
    source: Annotated[Path, typer.Argument(help="The first picture.", show_default=False)],
    target: Annotated[Path, typer.Argument(help="The last picture.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Animation to write, .webp, .gif or .mp4; a name without a suffix is a folder of PNG frames.",
            rich_help_panel=OUTPUT,
        ),
    ],
    frames: Annotated[
        int,
        typer.Option(min=2, max=_MOST_FRAMES, metavar="N", help="Pictures of the way there.", rich_help_panel=OUTPUT),
    ] = 32,
    seconds: Annotated[
        float, typer.Option(min=0.1, metavar="S", help="Duration of the way there.", rich_help_panel=OUTPUT)
    ] = 1.6,
    once: Annotated[
        bool, typer.Option("--once", help="Stop at the target, and do not go back.", rich_help_panel=OUTPUT)
    ] = False,
    size: Annotated[
        int,
        typer.Option(min=32, max=4096, metavar="PX", help="Longer side of the frames.", rich_help_panel=OUTPUT),
    ] = 512,
    pipeline: PipelineOptions = DEFAULTS,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Turn SOURCE into TARGET: a picture that moves from one to the other and back.

    Both are warped towards each other by a smooth flow, and dissolved where it is sure. Frames have the shape of
    SOURCE; a TARGET of another shape is set before its own blurred colours.
    """
    from geomatch.io.atomic import check_new_file, check_new_folder, write_atomically, write_folder_atomically
    from geomatch.io.formats.animations import check_animation, encode_animation, frame_files

    folder = not output.suffix
    if folder:
        check_new_folder(output, overwrite=overwrite)
    else:
        check_animation(output)
        check_new_file(output, overwrite=overwrite)
    pipeline.check()
    with status_line("reading", quiet=quiet) as status:
        images = _on_one_canvas(source, target, size)
        status("loading weights")
        loaded = pipeline.build()
        status("matching")
        drawn = _draw(images, loaded, frames)
        status("writing")
        shown = drawn if once else drawn + drawn[-2:0:-1]
        if folder:
            write_folder_atomically(output, frame_files(shown))
        else:
            write_atomically(output, encode_animation(shown, output.suffix.lower(), frames / seconds))
    width, height = drawn[0].size
    record = {"source": str(source), "target": str(target), "output": str(output), "frames": len(shown)}
    print_record(record | {"width": width, "height": height}, f"{output}: {len(shown)} frames of {width}x{height}")


def _on_one_canvas(source: Path, target: Path, size: int) -> list[Image.Image]:
    """Both images as pictures of the source's shape, with even sides, the longer of at most ``size`` pixels."""
    from geomatch.io.images import MIN_SIDE, load_image
    from geomatch.visualize.match_pictures.morph import on_canvas
    from geomatch.visualize.sheet import to_picture

    pictures = [to_picture(load_image(path)) for path in (source, target)]
    scale = min(1.0, size / max(pictures[0].size))
    width, height = (2 * round(side * scale / 2) for side in pictures[0].size)
    if min(width, height) < MIN_SIDE:
        raise InputError(f"--size {size}: frames of {width}x{height} pixels are too small; give a larger one")
    return [on_canvas(picture, (width, height)) for picture in pictures]


def _draw(pictures: list[Image.Image], pipeline: Pipeline, frames: int) -> list[Image.Image]:
    from geomatch.arguments import pixels_of
    from geomatch.options import Beyond
    from geomatch.visualize.match_pictures.morph import eased, morph_frames

    first, second = (pixels_of(picture) for picture in pictures)
    there, back = pipeline.match_both_ways(first, second)
    smooth = there.smooth(first, Beyond.plate), back.smooth(second, Beyond.plate)
    return list(morph_frames((first, second), smooth, eased(frames)))
