"""`geomatch datasets`: list the benchmarks, and check their folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geomatch.cli import completion
from geomatch.cli.console import stderr_console
from geomatch.cli.options import Quiet
from geomatch.errors import InputError

if TYPE_CHECKING:
    from geomatch.datasets.base import Benchmark

NAMED_AT_MOST = 20

app = typer.Typer(help="List the benchmarks; check one's folder.")


@app.callback(invoke_without_command=True)
def list_datasets(context: typer.Context) -> None:
    """List the benchmarks that `geomatch eval` knows, and their folders."""
    if context.invoked_subcommand is not None:
        return
    from rich.console import Console
    from rich.table import Table

    from geomatch.datasets.load import find_benchmark
    from geomatch.registry import DATASETS

    table = Table()
    for column in ("name", "annotations", "folder"):
        table.add_column(column, overflow="fold")
    for benchmark in map(find_benchmark, DATASETS.names()):
        table.add_row(benchmark.name, benchmark.about, _state(benchmark))
    Console().print(table)


@app.command()
def check(
    name: Annotated[
        str,
        typer.Argument(
            autocompletion=completion.datasets, help="Name as listed by `geomatch datasets`.", show_default=False
        ),
    ],
    root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the dataset; by default $GEOMATCH_DATA/NAME or ./data/NAME."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="trn|val|test", help="By default every split in the folder.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Read every annotation and every image of a benchmark, and count them.

    Prints a table of splits. Missing and unusable files are listed, with exit status 2.
    """
    from rich.console import Console
    from rich.table import Table

    from geomatch.datasets.load import check_dataset, find_benchmark, find_root

    benchmark = find_benchmark(name)
    folder = find_root(benchmark, root)
    splits = [split] if split else list(benchmark.splits(folder)) or ["test"]
    table = Table(title=f"{name} in {folder}", title_justify="left")
    for column in ("split", "pairs", "published", "keypoints", "images", "unusable"):
        table.add_column(column, justify="left" if column == "split" else "right")
    faults: list[str] = []
    for each in splits:
        with stderr_console(quiet=quiet).status(f"reading {name} {each}"):
            found = check_dataset(benchmark, folder, each)
        published = benchmark.counts.get(each)
        table.add_row(
            each,
            f"{found.pairs:,}",
            "" if published is None else f"{published:,}",
            f"{found.keypoints:,}",
            f"{found.images:,}",
            f"{len(found.faults):,}",
        )
        faults += found.faults
        if published is not None and found.pairs + len(found.faults) != published:
            faults.append(f"{each}: {found.pairs + len(found.faults):,} pairs instead of the published {published:,}")
    Console().print(table)
    if faults:
        more = f"\n... and {len(faults) - NAMED_AT_MOST} more" if len(faults) > NAMED_AT_MOST else ""
        raise InputError(f"{name} in {folder} is incomplete:\n" + "\n".join(faults[:NAMED_AT_MOST]) + more)


def _state(benchmark: Benchmark) -> str:
    from geomatch.datasets.load import possible_roots

    places = possible_roots(benchmark)
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        return f"not at {places[0]}; {benchmark.home or benchmark.archives}"
    splits = benchmark.splits(found)
    return f"{found}: {', '.join(splits)}" if splits else f"{found}: incomplete, see geomatch datasets check"
