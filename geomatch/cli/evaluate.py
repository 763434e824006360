"""`geomatch eval`: a benchmark to scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geomatch.cli.console import stderr_console
from geomatch.cli.options import (
    DeviceChoice,
    Features,
    MatcherName,
    MaxMemory,
    PresetChoice,
    Quiet,
    WeightsFile,
    parse_size,
)
from geomatch.settings import Device, Preset

if TYPE_CHECKING:
    from geomatch.evaluation.runner import Evaluation


def evaluate(
    dataset: Annotated[
        str, typer.Option(metavar="NAME", help="pf-willow, spair-71k or animal-parts.", show_default=False)
    ],
    root: Annotated[Path, typer.Option(metavar="DIR", help="The dataset's own folder.", show_default=False)],
    features: Features = "introspection",
    matcher: MatcherName = None,
    preset: PresetChoice = Preset.default,
    weights: WeightsFile = None,
    device: DeviceChoice = Device.auto,
    max_memory: MaxMemory = "2GiB",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
    quiet: Quiet = False,
) -> None:
    """Score features and a matcher on a benchmark, by the house protocol.

    Source keypoints are sent to the target in original pixels; one is correct if it lands within alpha times the
    threshold length of the truth (PF-WILLOW: the target's keypoint extent; else: the target's object box).
    """
    from dataclasses import asdict
    from json import dumps

    from rich.progress import Progress

    from geomatch.datasets.registry import load_dataset
    from geomatch.evaluation.runner import run
    from geomatch.pipeline import Pipeline

    pairs = load_dataset(dataset, root)
    pipeline = Pipeline.build(
        features=features,
        matcher=matcher,
        preset=preset,
        weights=weights,
        device=device,
        max_memory=parse_size(max_memory),
    )
    with Progress(console=stderr_console(quiet=quiet)) as bar:
        shown = bar.add_task(dataset, total=len(pairs.pairs))
        evaluation = run(pairs, pipeline, on_pair=lambda: bar.advance(shown))
    if json:
        typer.echo(dumps(asdict(evaluation)))
    else:
        _print_table(evaluation)


def _print_table(evaluation: Evaluation) -> None:
    from rich.console import Console
    from rich.table import Table

    for average in dict.fromkeys(result.average for result in evaluation.results):
        results = [result for result in evaluation.results if result.average == average]
        table = Table(
            title=f"{evaluation.dataset} {evaluation.split}, protocol {results[0].protocol}, {average}: "
            f"{evaluation.features} + {evaluation.matcher}",
            title_justify="left",
        )
        table.add_column("class")
        table.add_column("pairs", justify="right")
        for result in results:
            table.add_column(f"PCK@{result.alpha:.2f}", justify="right")
        for name in results[0].per_class:
            scores = [result.per_class[name] for result in results]
            table.add_row(name, str(scores[0].pairs), *(f"{score.pck:.3f}" for score in scores))
        table.add_section()
        table.add_row("all", str(evaluation.pairs), *(f"{result.pck:.3f}" for result in results), style="bold")
        Console().print(table)
