"""How to reproduce the numbers, and their cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from geomatch.evaluation.report.wording import NOTHING, counted, selection_label
from geomatch.evaluation.results import Evaluation
from geomatch.visualize.markup import Markup, element, joined


def reproduction_section(evaluations: Sequence[Evaluation], command: str) -> Markup:
    """The command line, and for each selection its settings, weights and time."""
    cards = (_card(evaluation, place) for place, evaluation in enumerate(evaluations))
    line = element("pre", element("code", command))
    return joined(line, element("div", *cards, class_="cards"))


def _card(evaluation: Evaluation, place: int) -> Markup:
    facts = {
        "version": element("span", "geomatch ", evaluation.version),
        "features": evaluation.features,
        "weights": _checksum(evaluation.weights),
        "matcher": evaluation.matcher,
        "settings": _definitions(_settings(evaluation.settings)),
        "time": _definitions({stage: f"{seconds:,.1f} s" for stage, seconds in evaluation.seconds.items()}),
        "speed": _speed(evaluation),
        "extractions": counted(evaluation.extractions, "image"),
        "reused": counted(evaluation.reused, "pair"),
    }
    return element("article", element("h3", selection_label(evaluation, place)), _definitions(facts), class_="card")


def _definitions(facts: Mapping[str, str]) -> Markup:
    if not facts:
        return Markup(NOTHING)
    pairs = (joined(element("dt", name), element("dd", fact)) for name, fact in facts.items())
    return element("dl", *pairs)


def _checksum(weights: str | None) -> Markup:
    return element("code", f"sha256 {weights}") if weights else Markup(NOTHING)


def _settings(values: Mapping[str, object]) -> dict[str, str]:
    """Settings as text; nested settings are named after both levels."""
    named: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            named |= {f"{name} {inner}": text for inner, text in _settings(value).items()}
        else:
            named[name] = _setting(value)
    return named


def _setting(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return NOTHING if value is None else str(value)


def _speed(evaluation: Evaluation) -> str:
    """Pairs per second, without those cached by an earlier run."""
    computed, seconds = evaluation.pairs - evaluation.reused, sum(evaluation.seconds.values())
    return f"{computed / seconds:.2f} pairs/s" if computed > 0 and seconds > 0 else NOTHING
