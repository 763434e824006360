"""`geomatch show`: pictures of what the features make of photographs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geomatch.cli.console import stderr_console
from geomatch.cli.options import DeviceChoice, PresetChoice, Quiet, WeightsFile
from geomatch.errors import InputError
from geomatch.options import PRESETS, Device, Preset

if TYPE_CHECKING:
    from torch import Tensor

    from geomatch.features.anchornet import AnchorFeatures
    from geomatch.geometry.grid import Grid

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
    from geomatch.io.atomic import write_atomically
    from geomatch.io.images import load_image, png_bytes
    from geomatch.io.parsing import json_text
    from geomatch.pipeline import Pipeline
    from geomatch.visualize.sigma import SigmaTile, draw_sigma_sheet

    _check_output(output, images)
    records, tiles = [], []
    with stderr_console(quiet=quiet).status("loading weights") as status:
        pipeline = Pipeline.build(features="introspection", preset=preset, weights=weights, device=device)
        for number, path in enumerate(images, 1):
            status.update(f"describing {number} of {len(images)}")
            pixels = load_image(path)
            features = pipeline.describe(pixels)
            assert features.inverse_confidence is not None, "introspection knows sigma"
            tiles.append(SigmaTile.from_features(path.name, pixels, features))
            records.append({"image": str(path), **_statistics(features.inverse_confidence), "output": str(output)})
        write_atomically(output, png_bytes(draw_sigma_sheet(tiles)))
    if quiet:
        return
    if sys.stdout.isatty():
        typer.echo(f"{output}: sigma of {_photographs(images)}")
    else:
        for record in records:
            typer.echo(json_text(record))


@app.command()
def responses(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Photographs.", show_default=False)],
    only: Annotated[
        str | None,
        typer.Option("--class", metavar="CLASS", help="Whose filters; by default the class that responds most."),
    ] = None,
    channels: Annotated[int, typer.Option(min=1, help="Filters to draw, those that respond most, at most all.")] = 8,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.png", help="Picture to write.")] = Path(
        "responses.png"
    ),
    preset: PresetChoice = Preset.default,
    weights: WeightsFile = None,
    device: DeviceChoice = Device.auto,
    quiet: Quiet = False,
) -> None:
    """Draw where on each photograph AnchorNet's filters for a class respond: rows are photographs, columns filters.

    An image's score for a class is how far its filters' strongest responses exceed their thresholds, on average.
    Without --class the class is the one with the largest sum of scores. Drawn are the filters whose strongest response,
    in the mean over photographs, is largest.

    Prints for each image one line of JSON: class and score, diversity of all its filters (mean cosine of two maps; less
    is more diverse), and of each filter drawn its strongest response, where that is, in pixels, and its sparsity (share
    of the squared response in the best 5 % of cells). On a terminal, a table of means.
    """
    import torch

    from geomatch.evaluation.metrics.anchors import class_scores, strongest_channels
    from geomatch.io.atomic import write_atomically
    from geomatch.io.images import load_image, png_bytes
    from geomatch.io.parsing import json_text
    from geomatch.pipeline import out_of_memory_named
    from geomatch.visualize.responses import ResponseRow, draw_response_sheet

    _check_output(output, images)
    with stderr_console(quiet=quiet).status("loading weights") as status, out_of_memory_named():
        extractor = _anchor_features(preset, weights, device)
        config = extractor.network.config
        if only:
            config.bank(only)  # to refuse an unknown class before the work
        pictures, maps, grids = [], [], []
        for number, path in enumerate(images, 1):
            status.update(f"describing {number} of {len(images)}")
            pictures.append(load_image(path))
            found = extractor.respond(pictures[-1])
            maps.append(found.maps.cpu())
            grids.append(found.grid)
        thresholds = extractor.network.response_thresholds()
        scores = torch.stack([class_scores(each, thresholds, len(config.classes)) for each in maps])
        name = only or config.classes[int(scores.sum(dim=0).argmax())]
        banks = [each[config.bank(name)] for each in maps]
        drawn = strongest_channels(torch.stack([bank.amax(dim=(1, 2)) for bank in banks]), channels)
        status.update("drawing")
        rows = [
            ResponseRow.from_maps(path.name, picture, bank[drawn], grid)
            for path, picture, bank, grid in zip(images, pictures, banks, grids, strict=True)
        ]
        write_atomically(output, png_bytes(draw_response_sheet(name, [f"filter {each}" for each in drawn], rows)))
    if quiet:
        return
    records = [
        {
            "image": str(path),
            "class": name,
            "score": round(float(score[config.classes.index(name)]), 4),
            **_measures(bank, drawn, grid),
            "output": str(output),
        }
        for path, score, bank, grid in zip(images, scores, banks, grids, strict=True)
    ]
    if sys.stdout.isatty():
        _print_measures(name, drawn, records)
        typer.echo(f"{output}: {len(drawn)} filters of {name} on {_photographs(images)}")
    else:
        for record in records:
            typer.echo(json_text(record))


def _anchor_features(preset: Preset, weights: Path | None, device: Device) -> AnchorFeatures:
    from geomatch.features.anchornet import AnchorFeatures
    from geomatch.features.load import load_features
    from geomatch.runtime.device import find_device

    size = PRESETS[preset].working_size
    extractor = load_features("anchornet", working_size=size, device=find_device(device), weights=weights)
    assert isinstance(extractor, AnchorFeatures), "that is what the name stands for"
    return extractor


def _check_output(output: Path, images: list[Path]) -> None:
    """Raises InputError if the picture cannot be written there."""
    from geomatch.io.atomic import check_writable

    if output.suffix.lower() != ".png":
        raise InputError(f"{output}: the picture is a PNG; give -o a name that ends in .png")
    if any(image.exists() and output.exists() and image.samefile(output) for image in images):
        raise InputError(f"{output}: is one of the photographs; give another name with -o")
    check_writable(output)


def _photographs(images: list[Path]) -> str:
    return f"{len(images)} photograph{'s' if len(images) > 1 else ''}"


def _statistics(sigma: Tensor) -> dict[str, float]:
    return {name: round(float(getattr(sigma, name)()), 4) for name in ("min", "mean", "max")}


def _measures(maps: Tensor, drawn: list[int], grid: Grid) -> dict[str, Any]:
    """What is told of a bank (K, h, w) on one photograph, and of those of its filters that are drawn."""
    from geomatch.evaluation.metrics.anchors import diversity, peaks, sparsity

    peak = grid.centres()[peaks(maps)].tolist()
    strongest, shares = maps.amax(dim=(1, 2)).tolist(), sparsity(maps).tolist()
    return {
        "diversity": round(float(diversity(maps)), 4) if len(maps) > 1 else None,
        "filters": [
            {
                "filter": each,
                "response": round(strongest[each], 4),
                "at": [round(axis, 1) for axis in peak[each]],
                "sparsity": round(shares[each], 4),
            }
            for each in drawn
        ],
    }


def _print_measures(name: str, drawn: list[int], records: list[dict[str, Any]]) -> None:
    from statistics import mean

    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{name}, mean over photographs", title_justify="left")
    for column in ("filter", "strongest response", "sparsity"):
        table.add_column(column, justify="right")
    for place, number in enumerate(drawn):
        row = (mean(record["filters"][place][what] for record in records) for what in ("response", "sparsity"))
        table.add_row(str(number), *(f"{each:.2f}" for each in row))
    Console().print(table)
    alike = [record["diversity"] for record in records if record["diversity"] is not None]
    if alike:
        typer.echo(f"diversity of all its filters {mean(alike):.2f}")
