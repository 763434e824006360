"""`geomatch show`: pictures of what the features make of photographs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geomatch.cli.console import stderr_console
from geomatch.cli.options import DeviceChoice, PresetChoice, Quiet, WeightsFile
from geomatch.errors import InputError
from geomatch.settings import Device, Preset

if TYPE_CHECKING:
    from torch import Tensor

app = typer.Typer(help="Draw what the features make of photographs.", no_args_is_help=True)


@app.callback()
def _show() -> None: ...


@app.command()
def confidence(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Photographs.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.png", help="Picture to write.")] = Path(
        "sigma.png"
    ),
    preset: PresetChoice = Preset.default,
    weights: WeightsFile = None,
    device: DeviceChoice = Device.auto,
    quiet: Quiet = False,
) -> None:
    """Draw each photograph beside its sigma, the inverse confidence that introspection has learnt.

    All on one scale: pale where the features are sure, dark where they are not. Prints for each image one line of
    JSON with the least, mean and largest sigma, or on a terminal a summary.
    """
    if output.suffix.lower() != ".png":
        raise InputError(f"{output}: the picture is a PNG; give -o a name that ends in .png")
    if any(image.exists() and output.exists() and image.samefile(output) for image in images):
        raise InputError(f"{output}: is one of the photographs; give another name with -o")
    from geomatch.io.atomic import check_writable, write_atomically
    from geomatch.io.images import load_image, png_bytes
    from geomatch.pipeline import Pipeline
    from geomatch.visualize.sigma import SigmaTile, draw_sigma_sheet

    check_writable(output)
    records, tiles = [], []
    with stderr_console(quiet=quiet).status("loading weights") as status:
        pipeline = Pipeline.build(preset=preset, weights=weights, device=device)
        for number, path in enumerate(images, 1):
            status.update(f"describing {number} of {len(images)}")
            pixels = load_image(path)
            features = pipeline.describe(pixels)
            assert features.inverse_confidence is not None, "introspection knows sigma"
            tiles.append(SigmaTile.of(path.name, pixels, features))
            records.append({"image": str(path), **_statistics(features.inverse_confidence), "output": str(output)})
        write_atomically(output, png_bytes(draw_sigma_sheet(tiles)))
    if quiet:
        return
    if sys.stdout.isatty():
        typer.echo(f"{output}: sigma of {len(images)} photograph{'s' if len(images) > 1 else ''}")
    else:
        for record in records:
            typer.echo(json.dumps(record, ensure_ascii=False))


def _statistics(sigma: Tensor) -> dict[str, float]:
    return {name: round(float(getattr(sigma, name)()), 4) for name in ("min", "mean", "max")}
