"""The texts of numbers and names on the page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from geomatch.evaluation.results import Evaluation
from geomatch.visualize.charts import series_label
from geomatch.visualize.markup import Markup

NOTHING = "\N{EN DASH}"
"""The text of a missing or infinite value."""

ALPHA = "\N{GREEK SMALL LETTER ALPHA}"


def number(value: float | None, unit: str = "share") -> str:
    """A value as text: shares as .612, pixels as 3.2 px, anything else to three digits."""
    if value is None or not math.isfinite(value):
        return NOTHING
    match unit:
        case "share":
            return f"{value:.3f}".removeprefix("0")
        case "pixels":
            return f"{value:.1f} px"
        case _:
            return f"{value:.3g}"


def interval_text(interval: tuple[float, float] | None, unit: str = "share") -> str:
    """An interval as .598–.626; empty for None."""
    if interval is None or not all(map(math.isfinite, interval)):
        return ""
    low, high = (number(end, unit) for end in interval)
    return f"{low.removesuffix(' px')}\N{EN DASH}{high}"


def counted(count: int, noun: str) -> str:
    """A count with its noun: "1 pair", "1,234 pairs"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def selection_name(evaluation: Evaluation) -> str:
    """The features and the matcher."""
    return f"{evaluation.features} + {evaluation.matcher}"


def selection_label(evaluation: Evaluation, place: int) -> Markup:
    """The features and the matcher, after a swatch of their colour in the charts."""
    return series_label(selection_name(evaluation), place)


def best(values: Sequence[float | None], better: str = "higher", unit: str = "share") -> set[int]:
    """The indices of the best values (all with the text of the best); empty if there are fewer than two values."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if len(known) < 2:
        return set()
    winner = number(max(known) if better == "higher" else min(known), unit)
    return {place for place, value in enumerate(values) if number(value, unit) == winner}
