"""`geomatch eval`: score features and matchers on a benchmark."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geomatch.cli.console import counting_bar, notify, status_line
from geomatch.cli.options import DEFAULTS, DatasetFolder, Overwrite, PipelineOptions, Quiet, names_in, pipeline_options
from geomatch.cli.scopes import ScopedFile, ScopedParameters, ScopedWeights, Scopes
from geomatch.errors import InputError
from geomatch.options import PRESETS
from geomatch.registry import DATASETS, FEATURES, MATCHERS, PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geomatch.datasets.pairs import PairDataset
    from geomatch.evaluation.protocols import Protocol
    from geomatch.evaluation.runner import Outcome
    from geomatch.pipeline import Pipeline


@pipeline_options("preset", "refine", "device", "precision", "max_memory", "mirror")
def evaluate(
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=names_in(DATASETS),
            help="Name as listed by `geomatch datasets`.",
            show_default=False,
        ),
    ] = None,
    root: DatasetFolder = None,
    split: Annotated[
        str | None, typer.Option(metavar="trn|val|test", help="By default test, or the only split there.")
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", autocompletion=names_in(FEATURES), help="As in `geomatch match`; repeatable."),
    ] = None,
    matcher: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            autocompletion=names_in(MATCHERS),
            help="As in `geomatch match`; repeatable; by default the preset's.",
        ),
    ] = None,
    parameters: ScopedParameters = None,
    weights: ScopedWeights = None,
    pipeline: PipelineOptions = DEFAULTS,
    protocol: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            autocompletion=names_in(PROTOCOLS),
            help="geomatch, pf, scnet, ncnet, hpf, dhpf, cats, dift, geoaware, asic, tapvid or all.",
        ),
    ] = ["geomatch"],  # noqa: B006
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Score N pairs spread over all, not the benchmark.")
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out and count unusable pairs.")] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Refuse pairs with keypoints outside their source, instead of leaving these out."
        ),
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete cached predictions and predict again.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per selection, not tables.")] = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write all scores as a table.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write a page with tables and pictures.")
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A.json B.json", help="Compare two outputs of --json instead of evaluating."),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Score features and matchers on a benchmark, under one protocol or several.

    Predictions of finished pairs are cached, so an interrupted run continues where it stopped. Under protocol geomatch,
    a source keypoint is correct if its predicted target position, in original pixels, is within alpha times a threshold
    length of the truth; the length depends on the benchmark. `geomatch datasets` lists the benchmarks.
    """
    if compare is not None:
        _compare(*compare, json=json)
        return
    if dataset is None:
        raise InputError("give --dataset NAME, as listed by `geomatch datasets`, or --compare A.json B.json")
    _check_outputs(csv, report, overwrite=overwrite)
    from geomatch.cli import scores
    from geomatch.evaluation.protocols import find_protocols

    pairs = load_pairs(dataset, root, split, limit=limit, skip_bad=skip_bad, strict=strict, quiet=quiet)
    protocols = find_protocols(pairs.name, protocol)
    pipelines = _pipelines(pipeline, features, matcher, weights or (), parameters or ())
    outcomes = run_groups(pairs, pipelines, protocols, fresh=fresh, quiet=quiet)
    if csv:
        _write_csv(csv, outcomes)
    if report:
        _write_report(report, pairs, outcomes, protocols)
    evaluations = [outcome.evaluation for outcome in outcomes]
    if json:
        scores.print_json_lines(evaluations)
    else:
        scores.print_tables(evaluations)


def _compare(first: Path, second: Path, *, json: bool) -> None:
    from geomatch.cli import scores
    from geomatch.evaluation.compare import compare, parse_scored
    from geomatch.io.inputs import read_input

    a, b = (parse_scored(file.text, str(file)) for file in map(read_input, (first, second)))
    scores.print_comparison(a, b, compare(a, b), json=json)


def _check_outputs(csv: Path | None, report: Path | None, *, overwrite: bool) -> None:
    from geomatch.io.atomic import check_new_file, check_new_folder

    if csv:
        check_new_file(csv, overwrite=overwrite, suffixes=(".csv",))
    if report:
        check_new_folder(report, overwrite=overwrite)


def load_pairs(
    name: str,
    root: Path | None,
    split: str | None,
    *,
    limit: int | None,
    skip_bad: bool,
    strict: bool,
    quiet: bool,
) -> PairDataset:
    """Read a split of a benchmark; notes on stderr say what was left out. Raises InputError."""
    from geomatch.datasets.load import load_dataset, without_unreadable

    with status_line(f"reading {name}", quiet=quiet):
        pairs = load_dataset(name, root, split=split, skip_bad=skip_bad, strict=strict)
        if skip_bad:
            pairs = without_unreadable(pairs)
    if pairs.skipped and skip_bad:
        notify(f"{len(pairs.skipped)} pairs are unusable and left out; the first: {pairs.skipped[0]}")
    if limit is None or limit >= len(pairs.pairs):
        return pairs
    notify(f"A SUBSET: {limit} of {len(pairs.pairs)} pairs, by --limit; these are not the scores of the benchmark")
    return pairs.limited(limit)


def _pipelines(
    options: PipelineOptions,
    features: Sequence[str] | None,
    matchers: Sequence[str] | None,
    weights: Sequence[str],
    parameters: Sequence[str],
) -> list[list[Pipeline]]:
    """For each features, loaded once, a pipeline of each matcher; by default the preset's."""
    settings = PRESETS[options.preset]
    chosen = list(dict.fromkeys(matchers or [settings.matcher]))
    files = [ScopedFile.parse(text) for text in weights]
    if features is None and len(files) == 1:
        features = [files[0].features()]
    names = list(dict.fromkeys(features or [settings.features]))
    scopes = Scopes(names, chosen, files, parameters)
    groups = []
    for name in names:
        pipeline = scopes.options_of(name, chosen[0], options).build(scopes.parameters_of(chosen[0]))
        others = (pipeline.with_matcher(each, scopes.parameters_of(each)) for each in chosen[1:])
        groups.append([pipeline, *others])
    return groups


def run_groups(
    pairs: PairDataset,
    pipelines: Sequence[Sequence[Pipeline]],
    protocols: Sequence[Protocol],
    *,
    fresh: bool,
    quiet: bool,
) -> list[Outcome]:
    """Score groups of pipelines, each of the same features, with a bar on stderr. Raises GeomatchError."""
    from geomatch.evaluation.runner import run
    from geomatch.io.predictions import cache_folder

    folder = cache_folder()
    cache = folder / "eval" if folder else None
    outcomes: list[Outcome] = []
    try:
        for group in pipelines:
            what = f"{pairs.name}: {group[0].extractor.name}"
            with counting_bar(what, len(pairs.pairs) * len(group), quiet=quiet) as advance:
                outcomes += run(pairs, group, protocols, cache=cache, fresh=fresh, on_pair=advance)
    except KeyboardInterrupt:
        if cache:
            notify("interrupted; finished pairs are cached, and the same command continues from there")
        raise
    return outcomes


def _write_csv(path: Path, outcomes: Sequence[Outcome]) -> None:
    from geomatch.evaluation.results import to_csv
    from geomatch.io.atomic import write_atomically

    write_atomically(path, to_csv(outcome.evaluation for outcome in outcomes).encode())


def _write_report(folder: Path, pairs: PairDataset, outcomes: Sequence[Outcome], protocols: Sequence[Protocol]) -> None:
    import shlex

    from geomatch.evaluation.examples import draw_examples
    from geomatch.evaluation.report import report_page
    from geomatch.io.atomic import write_folder_atomically

    page = report_page(
        [outcome.evaluation for outcome in outcomes],
        [draw_examples(pairs, outcome) for outcome in outcomes],
        {protocol.name: protocol.meaning() for protocol in protocols},
        shlex.join(["geomatch", *sys.argv[1:]]),
    )
    write_folder_atomically(folder, {"index.html": page.encode(errors="replace")})
