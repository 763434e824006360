"""`geomatch datasets`: list the benchmarks, and check their folders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from geomatch.cli.console import notify, status_line
from geomatch.cli.options import DatasetFolder, Quiet, names_in
from geomatch.cli.output import print_table
from geomatch.errors import InputError
from geomatch.registry import DATASETS

if TYPE_CHECKING:
    from geomatch.datasets.base import Benchmark

NAMED_AT_MOST = 20

app = typer.Typer(help="List the benchmarks; check one's folder.")


@app.callback(invoke_without_command=True)
def list_datasets(context: typer.Context) -> None:
    """List the benchmarks that `geomatch eval` knows, and their folders."""
    if context.invoked_subcommand is not None:
        return
    from geomatch.datasets.load import find_benchmark

    columns = ["name", "annotations"]
    benchmarks = [find_benchmark(name) for name in DATASETS.names()]
    print_table(None, columns, ((each.name, each.about) for each in benchmarks), text=columns)
    for each in benchmarks:  # below the table, which would break folders and addresses
        typer.echo(f"{each.name}: {_state(each)}")


@app.command()
def check(
    name: Annotated[
        str,
        typer.Argument(
            autocompletion=names_in(DATASETS), help="Name as listed by `geomatch datasets`.", show_default=False
        ),
    ],
    root: DatasetFolder = None,
    split: Annotated[
        str | None, typer.Option(metavar="trn|val|test", help="By default every split in the folder.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Read every annotation and every image of a benchmark, and count them.

    Prints a table of splits. Missing and unusable files are listed, with exit status 2.
    """
    from geomatch.datasets.load import check_dataset, find_benchmark, find_root

    benchmark = find_benchmark(name)
    folder = find_root(benchmark, root)
    splits = [split] if split else list(benchmark.splits(folder)) or ["test"]
    rows: list[tuple[str, ...]] = []
    faults: list[str] = []
    for each in splits:
        with status_line(f"reading {name} {each}", quiet=quiet):
            found = check_dataset(benchmark, folder, each)
        published = benchmark.published(folder, each)
        counts = (found.pairs, published, found.keypoints, found.images, len(found.faults))
        rows.append((each, *("" if count is None else f"{count:,}" for count in counts)))
        faults += found.faults
        if published is not None and found.pairs + len(found.faults) != published:
            faults.append(f"{each}: {found.pairs + len(found.faults):,} pairs instead of the published {published:,}")
    columns = ["split", "pairs", "published", "keypoints", "images", "unusable"]
    print_table(f"{name} in {folder}", columns, rows, text=["split"])
    if faults:
        for fault in faults[:NAMED_AT_MOST]:
            notify(fault)
        named = f"the first {NAMED_AT_MOST} are named above" if len(faults) > NAMED_AT_MOST else "all are named above"
        faulty = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}, {named}"
        raise InputError(f"{name} in {folder} is incomplete: {faulty}")


def _state(benchmark: Benchmark) -> str:
    from geomatch.datasets.load import possible_roots

    places = possible_roots(benchmark)
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        return f"not at {places[0]}; {benchmark.home or benchmark.archives}"
    splits = benchmark.splits(found)
    return f"{found}: {', '.join(splits)}" if splits else f"{found}: incomplete, see geomatch datasets check"
