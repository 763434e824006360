"""The report page: the benchmark, the scores, the curves, some pairs, and how to reproduce them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from geomatch.evaluation.report.charts import chart_section
from geomatch.evaluation.report.classes import class_section, difficulty_section
from geomatch.evaluation.report.pictures import PairPicture, picture_section
from geomatch.evaluation.report.reproduction import reproduction_section
from geomatch.evaluation.report.style import STYLE
from geomatch.evaluation.report.tables import headline_table, measure_table, protocol_table
from geomatch.evaluation.report.wording import counted, selection_name
from geomatch.evaluation.results import Evaluation
from geomatch.visualize.markup import Markup, element, joined
from geomatch.visualize.page import html_page


def report_page(
    evaluations: Sequence[Evaluation],
    pictures: Sequence[Sequence[PairPicture]],
    protocol_meanings: Mapping[str, str],
    command: str,
) -> str:
    """A self-contained HTML page that compares evaluations of one split of one benchmark.

    Args:
        evaluations: at least one.
        pictures: for each evaluation, the pairs to show.
        protocol_meanings: `Protocol.meaning` by protocol name.
        command: the command line, to be shown on the page.

    Returns:
        The page; the same arguments give the same page.

    Raises:
        ValueError: if there is no evaluation, or not one list of pictures for each.
    """
    if not evaluations or len(evaluations) != len(pictures):
        raise ValueError(f"{len(evaluations)} evaluations with {len(pictures)} lists of pictures")
    sections = [
        ("scores", "Scores", headline_table(evaluations, protocol_meanings)),
        ("measures", "Measures", measure_table(evaluations)),
        ("curves", "Curves", chart_section(evaluations)),
        ("classes", "Classes", class_section(evaluations)),
        ("difficulty", "Difficulty", difficulty_section(evaluations)),
        ("protocols", "Protocols", protocol_table(evaluations, protocol_meanings)),
        ("pairs", "Pairs", picture_section(evaluations, pictures)),
        ("reproduction", "Reproduction", reproduction_section(evaluations, command)),
    ]
    present = [section for section in sections if section[2]]
    title = f"{evaluations[0].dataset} {evaluations[0].split}"
    return html_page(
        title,
        _header(evaluations, [(name, words) for name, words, _ in present]),
        element("main", _banners(evaluations), *(_section(*section) for section in present)),
        style=STYLE,
    )


def _header(evaluations: Sequence[Evaluation], sections: Sequence[tuple[str, str]]) -> Markup:
    first = evaluations[0]
    classes = {pair.category for pair in first.pair_list}
    facts = (
        counted(first.pairs, "pair"),
        counted(first.keypoints, "keypoint"),
        f"{len(classes)} {'class' if len(classes) == 1 else 'classes'}" if classes else "",
        f"geomatch {first.version}",
    )
    return element(
        "header",
        element("p", "geomatch evaluation", class_="eyebrow"),
        element("h1", first.dataset, " ", element("span", first.split, class_="split")),
        element("ul", *(element("li", fact) for fact in facts if fact), class_="facts"),
        element("nav", *(element("a", words, href=f"#{name}") for name, words in sections), aria_label="Sections"),
    )


def _section(name: str, heading: str, content: Markup) -> Markup:
    return element("section", element("h2", heading), content, id=name)


def _banners(evaluations: Sequence[Evaluation]) -> Markup:
    """Warnings that the numbers are not those of the benchmark; empty if they are."""
    warned = {selection_name(evaluation): _warning(evaluation) for evaluation in evaluations}
    distinct = set(warned.values())
    if len(distinct) == 1:
        return distinct.pop()
    return joined(*(joined(element("h2", name), warning) for name, warning in warned.items() if warning))


def _warning(evaluation: Evaluation) -> Markup:
    scored, of, skipped = evaluation.pairs, evaluation.of, evaluation.skipped
    subset = (
        element(
            "p",
            element("strong", f"A subset: {scored:,} of {counted(of, 'pair')} scored."),
            " These numbers are not the benchmark's.",
        )
        if scored < of
        else Markup()
    )
    left_out = (
        element(
            "details",
            element("summary", element("strong", f"{counted(len(skipped), 'pair')} skipped"), ": why"),
            element("ul", *(element("li", reason) for reason in skipped)),
        )
        if skipped
        else Markup()
    )
    return element("div", subset, left_out, class_="banner", role="note") if subset or left_out else Markup()
