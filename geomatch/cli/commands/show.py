"""`geomatch show`: pictures of features: their confidence, and the responses of AnchorNet's filters."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geomatch.cli.console import stderr_console
from geomatch.cli.inputs import expand_names
from geomatch.cli.options import DeviceChoice, NullNames, Overwrite, PresetChoice, Quiet, WeightsFile
from geomatch.cli.output import print_record, print_table
from geomatch.errors import InputError
from geomatch.options import Device, Preset

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.status import Status
    from torch import Tensor

    from geomatch.features.anchornet import AnchorFeatures
    from geomatch.geometry.grid import Grid

Images = Annotated[
    list[Path],
    typer.Argument(metavar="IMAGE...", help="Photographs, or - to read their names from stdin.", show_default=False),
]
PictureFile = Annotated[Path, typer.Option("--output", "-o", metavar="FILE.png", help="Picture to write.")]

app = typer.Typer(help="Draw features of photographs.", no_args_is_help=True)


@app.callback()
def _show() -> None: ...


@app.command()
def confidence(
    images: Images,
    output: PictureFile = Path("sigma.png"),
    preset: PresetChoice = Preset.default,
    weights: WeightsFile = None,
    device: DeviceChoice = Device.auto,
    null: NullNames = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Draw each photograph beside its sigma, the inverse confidence that introspection has learnt.

    All photographs share one scale: pale is confident, dark is not. Prints one line of JSON per image with the
    smallest, mean and largest sigma, or a summary on a terminal.
    """
    from geomatch.io.atomic import write_atomically
    from geomatch.io.images import png_bytes
    from geomatch.pipeline import Pipeline
    from geomatch.visualize.sigma import draw_sigma_sheet, sigma_tile

    images = expand_names(images, null=null)
    _check_output(output, images, overwrite=overwrite)
    records, tiles = [], []
    with stderr_console(quiet=quiet).status("loading weights") as status:
        pipeline = Pipeline(features="introspection", preset=preset, weights=weights, device=device)
        for path, pixels in _load_images(images, status):
            features = pipeline.extract(pixels)
            sigma = features.inverse_confidence
            assert sigma is not None, "introspection has sigma"
            tiles.append(sigma_tile(path.name, pixels, features))
            extremes = {name: round(float(getattr(sigma, name)()), 4) for name in ("min", "mean", "max")}
            records.append({"image": str(path), **extremes, "output": str(output)})
        write_atomically(output, png_bytes(draw_sigma_sheet(tiles)))
    _print_records(records, f"{output}: sigma of {_count(images)}")


@app.command()
def responses(
    images: Images,
    only: Annotated[
        str | None,
        typer.Option("--class", metavar="CLASS", help="Class of the filters; by default the one with the best score."),
    ] = None,
    channels: Annotated[int, typer.Option(min=1, help="Number of filters to draw, strongest first.")] = 8,
    output: PictureFile = Path("responses.png"),
    preset: PresetChoice = Preset.default,
    weights: WeightsFile = None,
    device: DeviceChoice = Device.auto,
    null: NullNames = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Draw where AnchorNet's filters for a class respond: rows are photographs, columns are filters.

    The score of a class on an image is how far the strongest responses of its filters exceed their thresholds, on
    average. Without --class the class with the largest sum of scores is drawn. Of its filters those are drawn whose
    strongest response, averaged over photographs, is largest.

    Prints one line of JSON per image: class and score, diversity of all filters of the class (mean cosine of two
    maps; less is more diverse), and for each filter that is drawn its strongest response, the position of that in
    pixels, and its sparsity (share of the squared response in the best 5 % of cells). On a terminal, a table of means.
    """
    import torch

    from geomatch.evaluation.metrics.anchors import strongest_channels
    from geomatch.features.anchornet import AnchorFeatures
    from geomatch.io.atomic import write_atomically
    from geomatch.io.images import png_bytes
    from geomatch.pipeline import Pipeline, explain_out_of_memory
    from geomatch.visualize.responses import PICTURE, draw_response_sheet
    from geomatch.visualize.sheet import Tile

    images = expand_names(images, null=null)
    _check_output(output, images, overwrite=overwrite)
    with stderr_console(quiet=quiet).status("loading weights") as status, explain_out_of_memory():
        extractor = Pipeline(features="anchornet", preset=preset, weights=weights, device=device).extractor
        assert isinstance(extractor, AnchorFeatures), "those are the features asked for"
        config = extractor.network.config
        if only:
            config.bank(only)  # raises InputError for an unknown class
        photographs = [_respond(extractor, path, pixels) for path, pixels in _load_images(images, status)]
        name = only or config.classes[int(torch.stack([each.scores for each in photographs]).sum(dim=0).argmax())]
        bank = config.bank(name)
        drawn = strongest_channels(torch.stack([each.maps[bank].amax(dim=(1, 2)) for each in photographs]), channels)
        status.update("drawing")
        rows = [
            Tile.read(each.path.name, each.pixels, each.maps[bank][drawn], each.grid, PICTURE) for each in photographs
        ]
        write_atomically(output, png_bytes(draw_response_sheet(name, [f"filter {each}" for each in drawn], rows)))
    records = [
        {
            "image": str(each.path),
            "class": name,
            "score": round(float(each.scores[config.classes.index(name)]), 4),
            **_measures(each.maps[bank], drawn, each.grid),
            "output": str(output),
        }
        for each in photographs
    ]
    if sys.stdout.isatty():
        _print_means(name, drawn, records)
    _print_records(records, f"{output}: {len(drawn)} filters of {name} on {_count(images)}")


@dataclass(frozen=True)
class _Photograph:
    """An image (3, H, W) uint8, the responses (filters, h, w) of all filters on a grid, and the score of each class."""

    path: Path
    pixels: Tensor
    maps: Tensor
    grid: Grid
    scores: Tensor


def _respond(extractor: AnchorFeatures, path: Path, pixels: Tensor) -> _Photograph:
    from geomatch.evaluation.metrics.anchors import class_scores

    found, network = extractor.respond(pixels), extractor.network
    maps = found.maps.cpu()
    scores = class_scores(maps, network.response_thresholds(), len(network.config.classes))
    return _Photograph(path, pixels, maps, found.grid, scores)


def _load_images(images: Sequence[Path], status: Status) -> Iterator[tuple[Path, Tensor]]:
    """Each image's path and pixels, one after the other; the status counts them."""
    from geomatch.io.images import load_image

    for number, path in enumerate(images, 1):
        status.update(f"extracting {number} of {len(images)}")
        yield path, load_image(path)


def _check_output(output: Path, images: list[Path], *, overwrite: bool) -> None:
    """Raises InputError if the picture cannot be written to ``output``."""
    from geomatch.io.atomic import check_new_file

    if any(image.exists() and output.exists() and image.samefile(output) for image in images):
        raise InputError(f"{output}: is one of the photographs; give another name with -o")
    check_new_file(output, overwrite=overwrite, suffixes=(".png",))


def _count(images: Sequence[Path]) -> str:
    return f"{len(images)} photograph{'s' if len(images) > 1 else ''}"


def _measures(maps: Tensor, drawn: list[int], grid: Grid) -> dict[str, Any]:
    """The measures of a bank (K, h, w) on one image, and of its filters that are drawn, for the record."""
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


def _print_records(records: Sequence[dict[str, Any]], summary: str) -> None:
    """The summary on a terminal, a line of JSON for each record elsewhere."""
    for record in records[:1] if sys.stdout.isatty() else records:
        print_record(record, summary)


def _print_means(name: str, drawn: list[int], records: list[dict[str, Any]]) -> None:
    from statistics import mean

    rows = []
    for index, number in enumerate(drawn):
        means = (mean(record["filters"][index][what] for record in records) for what in ("response", "sparsity"))
        rows.append((str(number), *(f"{each:.2f}" for each in means)))
    print_table(f"{name}, mean over photographs", ["filter", "strongest response", "sparsity"], rows)
    diversities = [record["diversity"] for record in records if record["diversity"] is not None]
    if diversities:
        typer.echo(f"diversity of all its filters {mean(diversities):.2f}")
