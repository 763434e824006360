"""`geomatch show`: pictures of features: their confidence, and the responses of their channels."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geomatch.cli.console import print_error, status_line
from geomatch.cli.inputs import expand_names
from geomatch.cli.options import DeviceChoice, NullNames, Overwrite, PresetChoice, Quiet, WeightsFile
from geomatch.cli.output import print_record, print_table
from geomatch.errors import GeomatchError, InputError
from geomatch.options import Device, Preset, Responding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor

    from geomatch.geometry.grid import Grid
    from geomatch.pipeline import Pipeline
    from geomatch.visualize.sheet import Tile

Images = Annotated[
    list[Path],
    typer.Argument(
        metavar="IMAGE...", help="Photographs, folders of them, or - to read names from stdin.", show_default=False
    ),
]
PictureFile = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE.png", help="Picture to write; - for stdout.")
]

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
    smallest, mean and largest sigma, or a summary on a terminal. Images that cannot be read are left out; their lines
    say why, and the exit status is 1.
    """
    from geomatch.io.atomic import write_atomically
    from geomatch.io.images import png_bytes
    from geomatch.pipeline import Pipeline
    from geomatch.visualize.sigma import draw_sigma_sheet, sigma_tile

    images = expand_names(images, null=null)
    _check_output(output, images, overwrite=overwrite)
    records, tiles = [], []
    with status_line("loading weights", quiet=quiet) as status:
        pipeline = Pipeline(features="introspection", preset=preset, weights=weights, device=device)
        for path, pixels in (readable := _Readable(images, status)):
            features = pipeline.extract(pixels)
            sigma = features.inverse_confidence
            assert sigma is not None, "introspection has sigma"
            tiles.append(sigma_tile(path.name, pixels, features))
            extremes = {name: round(float(getattr(sigma, name)()), 4) for name in ("min", "mean", "max")}
            records.append({"image": str(path), **extremes, "output": str(output)})
        write_atomically(output, png_bytes(draw_sigma_sheet(tiles)))
    _print_records(readable, records, f"{output}: sigma of {_count(records)}", output)


@app.command()
def responses(
    images: Images,
    features: Annotated[
        Responding, typer.Option(help="Whose channels: AnchorNet's filters, or channels of introspection's phi.")
    ] = Responding.anchornet,
    only: Annotated[
        str | None,
        typer.Option("--class", metavar="CLASS", help="Class of the filters; by default the one with the best score."),
    ] = None,
    channels: Annotated[int, typer.Option(min=1, help="Number of channels to draw, strongest first.")] = 8,
    output: PictureFile = Path("responses.png"),
    preset: PresetChoice = Preset.default,
    weights: WeightsFile = None,
    device: DeviceChoice = Device.auto,
    null: NullNames = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Draw where channels of features respond: rows are photographs, columns are channels.

    With AnchorNet, channels are the filters of a class. The score of a class on an image is how far the strongest
    responses of its filters exceed their thresholds, on average. Without --class the class with the largest sum of
    scores is drawn. Of its filters those are drawn whose strongest response, averaged over photographs, is largest.

    With introspection, those channels of phi are drawn that respond most where sigma is small, beside sigma. Give
    several photographs of one class.

    Prints one line of JSON per image: class and score, diversity of all filters of the class or of all channels (mean
    cosine of two maps; less is more diverse), and for each channel that is drawn its strongest response, the position
    of that in pixels, and its sparsity (share of the squared response in the best 5 % of cells). On a terminal, a table
    of means. Images that cannot be read are left out; their lines say why, and the exit status is 1.
    """
    from geomatch.io.atomic import write_atomically
    from geomatch.io.images import png_bytes
    from geomatch.pipeline import Pipeline, explain_out_of_memory
    from geomatch.visualize.responses import draw_response_sheet

    images = expand_names(images, null=null)
    _check_output(output, images, overwrite=overwrite)
    if only and features is not Responding.anchornet:
        raise InputError("--class chooses filters of AnchorNet: leave it out, or give --features anchornet")
    with status_line("loading weights", quiet=quiet) as status, explain_out_of_memory():
        pipeline = Pipeline(features=features.value, preset=preset, weights=weights, device=device)
        readable = _Readable(images, status)
        found = _filters(pipeline, readable, only) if features is Responding.anchornet else _phi(pipeline, readable)
        drawn = found.strongest(channels)
        status("drawing")
        names = [f"{found.kind} {each}" for each in drawn]
        sheet = draw_response_sheet(found.title, names, found.tiles(drawn), found.sigmas)
        write_atomically(output, png_bytes(sheet))
    records = [
        {"image": str(each.path), **each.about, **_measures(each, drawn, found.kind), "output": str(output)}
        for each in found.photographs
    ]
    if sys.stdout.isatty():
        _print_means(found.title, found.kind, drawn, records)
    summary = f"{output}: {len(drawn)} {found.kind}s of {found.title} on {_count(records)}"
    _print_records(readable, records, summary, output)


@dataclass(frozen=True)
class _Photograph:
    """An image (3, H, W) uint8, the responses (C, h, w) of channels on a grid, and what the record says besides."""

    path: Path
    pixels: Tensor
    maps: Tensor
    grid: Grid
    about: dict[str, Any]


@dataclass(frozen=True)
class _Responses:
    """The responses of all channels to all photographs, how to rank them, and sigma where there is one."""

    title: str
    kind: str
    photographs: list[_Photograph]
    strongest: Callable[[int], list[int]]
    sigmas: Sequence[Tile] = ()

    def tiles(self, drawn: list[int]) -> list[Tile]:
        from geomatch.visualize.responses import PICTURE
        from geomatch.visualize.sheet import Tile

        return [
            Tile.read(each.path.name, each.pixels, each.maps[drawn], each.grid, PICTURE) for each in self.photographs
        ]


def _filters(pipeline: Pipeline, images: Iterable[tuple[Path, Tensor]], only: str | None) -> _Responses:
    """AnchorNet's filters of a class, by default the one with the largest sum of scores."""
    import torch

    from geomatch.evaluation.metrics.anchors import class_scores, strongest_channels
    from geomatch.features.anchornet import AnchorFeatures

    extractor = pipeline.extractor
    assert isinstance(extractor, AnchorFeatures), "those are the features asked for"
    config, thresholds = extractor.network.config, extractor.network.response_thresholds()
    if only:
        config.bank(only)  # raises InputError for an unknown class
    found = [(path, pixels, extractor.respond(pixels)) for path, pixels in images]
    scores = torch.stack([class_scores(each.maps.cpu(), thresholds, len(config.classes)) for _, _, each in found])
    index = config.classes.index(only) if only else int(scores.sum(dim=0).argmax())
    name = config.classes[index]
    bank = config.bank(name)
    photographs = [
        _Photograph(path, pixels, each.maps[bank].cpu(), each.grid, {"class": name, "score": round(float(score), 4)})
        for (path, pixels, each), score in zip(found, scores[:, index], strict=True)
    ]
    maxima = torch.stack([each.maps.amax(dim=(1, 2)) for each in photographs])
    return _Responses(name, "filter", photographs, lambda count: strongest_channels(maxima, count))


def _phi(pipeline: Pipeline, images: Iterable[tuple[Path, Tensor]]) -> _Responses:
    """Channels of introspection's phi, where they are positive, and its sigma."""
    from geomatch.visualize.responses import PICTURE, channels_of_sure_cells
    from geomatch.visualize.sigma import sigma_tile

    found = [(path, pixels, pipeline.extract(pixels)) for path, pixels in images]
    photographs = [
        _Photograph(path, pixels, features.descriptors.relu().cpu(), features.grid, {})
        for path, pixels, features in found
    ]
    sigmas = [sigma_tile(path.name, pixels, features, PICTURE) for path, pixels, features in found]
    everything = [features for _, _, features in found]
    return _Responses("phi", "channel", photographs, lambda count: channels_of_sure_cells(everything, count), sigmas)


@dataclass
class _Readable:
    """Path and pixels of each image of a list that can be read; the status counts them.

    errors: what is wrong with the others, by their place in the list. Raises InputError at the end if none can be read.
    """

    images: Sequence[Path]
    status: Callable[[str], None]
    errors: dict[int, InputError] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[Path, Tensor]]:
        from geomatch.io.images import load_image

        for place, path in enumerate(self.images):
            self.status(f"extracting {place + 1} of {len(self.images)}")
            try:
                pixels = load_image(path)
            except InputError as error:
                self.errors[place] = error
            else:
                yield path, pixels
        if len(self.errors) == len(self.images):
            raise self.errors[0]

    def in_order(self, records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """A record of every image: of those that can be read, the ones given."""
        given = iter(records)
        return [
            {"image": str(path), "error": str(self.errors[place])} if place in self.errors else next(given)
            for place, path in enumerate(self.images)
        ]


def _check_output(output: Path, images: list[Path], *, overwrite: bool) -> None:
    """Raises InputError if the picture cannot be written to ``output``."""
    from geomatch.io.atomic import check_output

    if any(image.exists() and output.exists() and image.samefile(output) for image in images):
        raise InputError(f"{output}: is one of the photographs; give another name with -o")
    check_output(output, overwrite=overwrite, suffixes=(".png",))


def _count(records: Sequence[object]) -> str:
    return f"{len(records)} photograph{'s' if len(records) > 1 else ''}"


def _measures(photograph: _Photograph, drawn: list[int], kind: str) -> dict[str, Any]:
    """The measures of all channels on one image, and of those that are drawn, for the record."""
    from geomatch.evaluation.metrics.anchors import diversity, peaks, sparsity

    maps = photograph.maps
    peak = photograph.grid.centres()[peaks(maps)].tolist()
    strongest, shares = maps.amax(dim=(1, 2)).tolist(), sparsity(maps).tolist()
    return {
        "diversity": round(float(diversity(maps)), 4) if len(maps) > 1 else None,
        f"{kind}s": [
            {
                kind: each,
                "response": round(strongest[each], 4),
                "at": [round(axis, 1) for axis in peak[each]],
                "sparsity": round(shares[each], 4),
            }
            for each in drawn
        ],
    }


def _print_records(readable: _Readable, records: Sequence[dict[str, Any]], summary: str, output: Path) -> None:
    """The summary on a terminal, a line of JSON for each image elsewhere, nothing if the picture went to stdout.

    Raises GeomatchError if any failed.
    """
    from geomatch.io.atomic import STDOUT

    if output != STDOUT:
        for record in records[:1] if sys.stdout.isatty() else readable.in_order(records):
            print_record(record, summary)
    for error in readable.errors.values():
        print_error(str(error))
    if readable.errors:
        raise GeomatchError(f"{_count(readable.images)}, {len(readable.errors)} failed")


def _print_means(name: str, kind: str, drawn: list[int], records: list[dict[str, Any]]) -> None:
    from statistics import mean

    rows = []
    for index, number in enumerate(drawn):
        means = (mean(record[f"{kind}s"][index][what] for record in records) for what in ("response", "sparsity"))
        rows.append((str(number), *(f"{each:.2f}" for each in means)))
    print_table(f"{name}, mean over photographs", [kind, "strongest response", "sparsity"], rows)
    diversities = [record["diversity"] for record in records if record["diversity"] is not None]
    if diversities:
        typer.echo(f"diversity of all its {kind}s {mean(diversities):.2f}")
