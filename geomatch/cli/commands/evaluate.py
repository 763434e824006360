"""`geomatch eval`: score features and matchers on a benchmark."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geomatch.cli.console import counting_bar, notify, status_line
from geomatch.cli.options import (
    DEFAULTS,
    THIS_PROCESS,
    DatasetFolder,
    EngineOptions,
    Overwrite,
    PipelineOptions,
    Quiet,
    engine_options,
    names_in,
    pipeline_options,
    remember_features,
)
from geomatch.cli.scopes import ScopedFile, ScopedParameters, ScopedWeights, Scopes
from geomatch.errors import GeomatchWarning, InputError
from geomatch.options import PRESETS, Zoom
from geomatch.registry import DATASETS, FEATURES, MATCHERS, PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from geomatch.datasets.pairs import PairDataset
    from geomatch.evaluation.protocols import Protocol
    from geomatch.evaluation.runner import Outcome, Work
    from geomatch.pipeline import Pipeline


@pipeline_options("preset", "refine", "zoom", "device", "precision", "max_memory", "batch", "mirror")
@engine_options
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
    engine: EngineOptions = THIS_PROCESS,
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
    from geomatch.evaluation.runner import Work
    from geomatch.runtime.engines.engine import Once

    load = partial(load_pairs, dataset, root, split, limit=limit, skip_bad=skip_bad, strict=strict, quiet=True)
    opened = engine.open(pipeline.device)
    pairs = load(quiet=quiet)
    protocols = find_protocols(pairs.name, protocol)
    groups = _groups(pipeline, features, matcher, weights or (), parameters or ())
    work = [
        Work(opened, Once(partial(_silently, load)), Once(partial(group.build, remember=True)))
        for group in groups
        if opened.remote
    ]
    pipelines = [group.build() for group in groups]
    outcomes = run_groups(pairs, pipelines, protocols, fresh=fresh, quiet=quiet, work=work)
    if csv:
        _write_csv(csv, outcomes)
    if report:
        _write_report(report, pairs, outcomes, protocols)
    evaluations = [outcome.evaluation for outcome in outcomes]
    if json:
        scores.print_json_lines(evaluations)
    else:
        scores.print_tables(evaluations)


def _silently(load: Callable[[], PairDataset]) -> PairDataset:
    """Load what another process has loaded, and has said everything about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GeomatchWarning)
        return load()


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


@dataclass(frozen=True)
class _Group:
    """Features, and the matchers that share them."""

    scopes: Scopes
    features: str
    matchers: Sequence[str]
    options: PipelineOptions

    def build(self, *, remember: bool = False) -> list[Pipeline]:
        """A pipeline of each matcher; the features are loaded once. remember: keep those of the last images."""
        first = self.matchers[0]
        options = self.scopes.options_of(self.features, first, self.options)
        pipeline = options.build(self.scopes.parameters_of(first))
        others = [pipeline.with_matcher(each, self.scopes.parameters_of(each)) for each in self.matchers[1:]]
        if any(each.zoom is not pipeline.zoom for each in others):  # one of them looks at images as a whole
            return replace(self, options=replace(self.options, zoom=Zoom.off)).build(remember=remember)
        if remember:
            remember_features(pipeline)
            for each in others:
                each.extractor = pipeline.extractor
        return [pipeline, *others]


def _groups(
    options: PipelineOptions,
    features: Sequence[str] | None,
    matchers: Sequence[str] | None,
    weights: Sequence[str],
    parameters: Sequence[str],
) -> list[_Group]:
    """The features and matchers that are asked for, by default the preset's."""
    settings = PRESETS[options.preset]
    chosen = list(dict.fromkeys(matchers or [settings.matcher]))
    files = [ScopedFile.parse(text) for text in weights]
    if options.zoom is None:  # the preset's, for its own features
        options = replace(options, zoom=Zoom.off if features or files else settings.zoom)
    if features is None and len(files) == 1:
        features = [files[0].features()]
    names = list(dict.fromkeys(features or [settings.features]))
    scopes = Scopes(names, chosen, files, parameters)
    return [_Group(scopes, name, chosen, options) for name in names]


def run_groups(
    pairs: PairDataset,
    pipelines: Sequence[Sequence[Pipeline]],
    protocols: Sequence[Protocol],
    *,
    fresh: bool,
    quiet: bool,
    work: Sequence[Work] = (),
) -> list[Outcome]:
    """Score groups of pipelines, each of the same features, with a bar on stderr. work: who predicts, for each group.

    Raises GeomatchError.
    """
    from geomatch.evaluation.runner import run
    from geomatch.io.predictions import cache_folder

    folder = cache_folder()
    cache = folder / "eval" if folder else None
    outcomes: list[Outcome] = []
    try:
        for group, by in zip_longest(pipelines, work):
            what = f"{pairs.name}: {group[0].extractor.name}"
            with counting_bar(what, len(pairs.pairs) * len(group), quiet=quiet) as advance:
                outcomes += run(pairs, group, protocols, cache=cache, fresh=fresh, on_pair=advance, work=by)
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
