"""`geomatch reproduce`: the tables of a paper."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geomatch.cli.commands.evaluate import load_pairs, run_groups
from geomatch.cli.console import notify
from geomatch.cli.options import DEFAULTS, OUTPUT, Overwrite, PipelineOptions, Quiet, pipeline_options
from geomatch.cli.scopes import ScopedFile, ScopedParameters, ScopedWeights, Scopes
from geomatch.errors import InputError, MissingLibraryError, did_you_mean, printable, unknown_name
from geomatch.options import Refine

if TYPE_CHECKING:
    from geomatch.datasets.pairs import PairDataset
    from geomatch.evaluation.suites.suite import Method, Suite
    from geomatch.evaluation.suites.table import FinishedTable
    from geomatch.pipeline import Pipeline


@pipeline_options("preset", "device", "precision", "max_memory")
def reproduce(
    paper: Annotated[str, typer.Argument(metavar="PAPER", help="anchornet or introspection.", show_default=False)],
    root: Annotated[
        Path,
        typer.Option("--root", metavar="DIR", help="Folder that holds the folders of benchmarks.", show_default=False),
    ],
    features: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only rows of these features; repeatable.")
    ] = None,
    matcher: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only rows of these matchers; repeatable.")
    ] = None,
    parameters: ScopedParameters = None,
    weights: ScopedWeights = None,
    pipeline: PipelineOptions = DEFAULTS,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Score N pairs of each benchmark spread over all.")
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out and count unusable pairs.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete cached predictions and predict again.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per table.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also write tables.md, tables.tex, tables.json and index.html there.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Compute the tables of a paper, method by class, beside published numbers.

    Benchmarks that are not in DIR are named, with where to get them. Predictions are cached, so an interrupted run
    continues where it stopped.
    """
    from geomatch.io.atomic import check_new_folder

    suite, methods = _chosen(paper, features or (), matcher or ())
    if out:
        check_new_folder(out, overwrite=overwrite)
    datasets, notes = _datasets(suite, root, limit=limit, skip_bad=skip_bad, quiet=quiet)
    groups, said = _pipelines(replace(pipeline, refine=Refine.off), methods, weights or (), parameters or ())
    notes += said
    tables: list[FinishedTable] = []
    for pairs in datasets:
        found, said = _tables(suite, pairs, groups, fresh=fresh, quiet=quiet)
        tables, notes = [*tables, *found], [*notes, *said]
    notes = [printable(note) for note in notes]
    for note in notes:
        notify(note)
    if out:
        _write(out, suite, tables, [*notes, *_shortfalls(datasets, root)])
    _print(tables, json=json)


def _chosen(paper: str, features: Sequence[str], matchers: Sequence[str]) -> tuple[Suite, list[Method]]:
    """The suite of a paper, and its methods of these features and matchers. Raises InputError for unknown names."""
    from geomatch.evaluation.suites.suite import chosen_methods, suites

    known = suites()
    if paper not in known:
        raise InputError(unknown_name("paper", paper, list(known)))
    suite = known[paper]
    given = (
        ("features", features, list(dict.fromkeys(method.features for method in suite.methods))),
        ("matchers", matchers, list(dict.fromkeys(method.matcher for method in suite.methods))),
    )
    for kind, names, rows in given:
        for name in names:
            if name not in rows:
                hint = did_you_mean(name, rows)
                raise InputError(f"the tables of {paper} have no {kind} '{name}'{hint}: choose from {', '.join(rows)}")
    return suite, chosen_methods(suite, features, matchers)


def _datasets(
    suite: Suite, root: Path, *, limit: int | None, skip_bad: bool, quiet: bool
) -> tuple[list[PairDataset], list[str]]:
    """The benchmarks of a suite that are in a folder, and what is to be said of the others.

    Raises InputError if there is none.
    """
    from geomatch.datasets.load import find_benchmark
    from geomatch.evaluation.suites.benchmarks import check_parent, folder_of, how_to_get

    check_parent(root)
    found, notes = [], []
    for name in suite.datasets:
        benchmark = find_benchmark(name)
        folder = folder_of(benchmark, root)
        if folder is None:
            notes.append(how_to_get(benchmark, root))
            continue
        try:
            found.append(load_pairs(name, folder, None, limit=limit, skip_bad=skip_bad, strict=False, quiet=quiet))
        except InputError as error:
            notes.append(f"{name}: left out, since it cannot be read: {error}")
    if not found:
        raise InputError(f"{root} holds none of the benchmarks: {'; '.join(notes)}")
    return found, notes


def _shortfalls(datasets: Sequence[PairDataset], root: Path) -> list[str]:
    """Which benchmarks are not complete; on a terminal, reading them has said so."""
    from geomatch.datasets.load import find_benchmark
    from geomatch.evaluation.suites.benchmarks import shortfall

    every = ((pairs, (pairs.of or len(pairs.pairs)) + len(pairs.skipped)) for pairs in datasets)
    return [note for pairs, count in every for note in shortfall(find_benchmark(pairs.name), root, pairs.split, count)]


def _pipelines(
    options: PipelineOptions, methods: Sequence[Method], weights: Sequence[str], parameters: Sequence[str]
) -> tuple[list[list[Pipeline]], list[str]]:
    """The pipelines of the methods, those of the same features together, and what is to be said of the others.

    Raises GeomatchError, also if there is none.
    """
    names = list(dict.fromkeys(method.features for method in methods))
    matchers = list(dict.fromkeys(method.matcher for method in methods))
    scopes = Scopes(names, matchers, [ScopedFile.parse(text) for text in weights], parameters)
    groups: dict[str, list[Pipeline]] = {}
    methods, notes = _without_weights(methods, scopes)
    for method in methods:
        settings = {**method.parameters, **scopes.parameters_of(method.matcher)}
        try:
            _check_libraries(method.matcher, settings)
            if group := groups.get(method.features):
                group.append(group[0].with_matcher(method.matcher, settings))
            else:
                pipeline = scopes.options_of(method.features, method.matcher, options).build(settings)
                groups[method.features] = [pipeline]
        except MissingLibraryError as error:
            notes.append(f"no row of {method.name}: {error}")
    if not groups:
        raise InputError(notes[0])
    return list(groups.values()), notes


def _without_weights(methods: Sequence[Method], scopes: Scopes) -> tuple[list[Method], list[str]]:
    """The methods but for those that need weights which are not given, and what is to be said of these."""
    from geomatch.evaluation.suites.suite import NEEDS_WEIGHTS
    from geomatch.features.weights import load_weights

    kept, notes = list(methods), []
    for name, how in NEEDS_WEIGHTS.items():
        if any(method.features == name for method in kept) and not scopes.has_weights_of(name):
            notes.append(f"no rows of {name}: {how}")
            kept = [method for method in kept if method.features != name]
    if any(method.matcher == "scnet-ag+" for method in kept):
        weights = scopes.weights_of("scnet")
        if weights and load_weights(weights).config.get("variant") != "ag+":
            notes.append("no row of scnet + scnet-ag+: these weights have no embedding of geometry")
            kept = [method for method in kept if method.matcher != "scnet-ag+"]
    return kept, notes


def _check_libraries(matcher: str, parameters: Mapping[str, object]) -> None:
    """Raise MissingLibraryError if a matcher with these parameters would, with the first image."""
    from geomatch.matching.load import load_matcher
    from geomatch.matching.proposal_flow.proposal_flow import SEARCHES, ProposalFlow
    from geomatch.runtime.optional import import_opencv

    made = load_matcher(matcher, parameters)
    if isinstance(made, ProposalFlow) and made.proposals in SEARCHES:
        import_opencv("selective search")


def _tables(
    suite: Suite,
    pairs: PairDataset,
    groups: Sequence[Sequence[Pipeline]],
    *,
    fresh: bool,
    quiet: bool,
) -> tuple[list[FinishedTable], list[str]]:
    """The tables on a benchmark, and what is to be said of rows and tables that cannot be computed."""
    from geomatch.datasets.pascal_ilsvrc import voc_class
    from geomatch.evaluation.protocols import DEFAULT, find_protocols
    from geomatch.evaluation.suites.table import finish_table

    wanted = [table for table in suite.tables if table.dataset == pairs.name]
    protocols = find_protocols(pairs.name, [table.protocol or DEFAULT for table in wanted])
    able, notes = [], []
    for group in groups:
        try:
            for name in sorted({voc_class(pair.category) for pair in pairs.pairs}):
                group[0].for_class(name)
            able.append(group)
        except InputError as error:
            notes.append(f"{pairs.name}: no row of {group[0].extractor.name}: {error}")
    if not able:
        return [], notes
    outcomes = run_groups(pairs, able, protocols, fresh=fresh, quiet=quiet)
    evaluations = [outcome.evaluation for outcome in outcomes]
    finished = [(table, finish_table(table, evaluations)) for table in wanted]
    notes += [
        f"{table.title}: no table, since {pairs.name} here lacks {table.score}" for table, done in finished if not done
    ]
    return [done for _, done in finished if done], notes


def _print(tables: Sequence[FinishedTable], *, json: bool) -> None:
    from geomatch.cli.output import print_json
    from geomatch.evaluation.results import plain
    from geomatch.evaluation.suites.formats import to_text

    for table in tables:
        if json:
            print_json(plain(table))
        else:
            text = to_text(table, shutil.get_terminal_size().columns)
            typer.echo("\n".join(map(printable, text.split("\n"))))


def _write(folder: Path, suite: Suite, tables: Sequence[FinishedTable], notes: Sequence[str]) -> None:
    from geomatch.evaluation.report.paper_page import paper_page
    from geomatch.evaluation.results import plain
    from geomatch.evaluation.suites.formats import to_latex, to_markdown
    from geomatch.io.atomic import write_folder_atomically
    from geomatch.io.json_text import json_text

    command = printable(shlex.join(["geomatch", *sys.argv[1:]]))
    files = {
        "tables.md": to_markdown(tables, suite.about, [*notes, f"Computed by `{command}`."]),
        "tables.tex": to_latex(tables, [*notes, f"Computed by {command}"]),
        "tables.json": json_text([plain(table) for table in tables]),
        "index.html": paper_page(tables, suite.about, notes, command),
    }
    write_folder_atomically(folder, {name: text.encode(errors="replace") for name, text in files.items()})
