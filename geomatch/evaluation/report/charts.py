"""The curves of evaluations, every selection in its own colour."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from geomatch.evaluation.report.wording import ALPHA, number, selection_label, selection_name
from geomatch.evaluation.results import Curve, Evaluation
from geomatch.visualize.charts import MINUS, Axis, Plot, chart_svg, line, series_class
from geomatch.visualize.markup import Markup, element

LARGEST_POINT = 8.0
_SMALLEST_POINT = 1.5
_PLAIN_POINT = 2.5
_DOTTED_UP_TO = 12
"""Curves of more points than this, and without weights, are drawn as lines only."""


@dataclass(frozen=True)
class Kind:
    """How curves of one name are drawn.

    reference: what their reference is, for the legend. diagonal: what the line y = x stands for, where it is drawn.
    """

    title: str
    x: str
    y: str
    about: str = ""
    reference: str = ""
    diagonal: str = ""


KINDS = {
    "pck": Kind("Correct keypoints", f"tolerance {ALPHA}", "PCK", f"Share of keypoints within {ALPHA} of the truth."),
    "sparsification": Kind(
        "Sparsification",
        "share of matches dropped, least confident first",
        "share wrong among the rest",
        "The nearer to the oracle, the better confidence ranks errors.",
        reference="oracle: wrong ones first",
    ),
    "calibration": Kind(
        "Calibration",
        "confidence",
        "share right",
        "Above the diagonal confidence is too low, below too high. Area of a point: share of all matches.",
        diagonal="perfect calibration",
    ),
    "pcr": Kind(
        "Correct regions", f"tolerance τ of 1 {MINUS} IoU", "PCR", f"Share of regions with 1 {MINUS} IoU below τ."
    ),
    "miou": Kind("Overlap of the first k regions", "k", "mean IoU", "Mean IoU of the k most confident regions."),
}
"""Kinds of curves by name, in their order on the page."""


def chart_section(evaluations: Sequence[Evaluation]) -> Markup:
    """A chart for every name that a curve goes by; empty if there are no curves."""
    present = dict.fromkeys(curve.name for each in evaluations for curve in each.curves)
    names = [name for name in KINDS if name in present] + [name for name in present if name not in KINDS]
    charts = (_figure(KINDS.get(name, Kind(name, "x", "y")), name, evaluations) for name in names)
    return element("div", *charts, class_="charts") if names else Markup()


def _figure(kind: Kind, name: str, evaluations: Sequence[Evaluation]) -> Markup:
    drawn = [
        (place, evaluation, curve)
        for place, evaluation in enumerate(evaluations)
        for curve in evaluation.curves
        if curve.name == name
    ]
    described = "; ".join(f"{selection_name(evaluation)}: {_ends(kind, curve)}" for _, evaluation, curve in drawn)
    entries = [element("li", selection_label(evaluation, place)) for place, evaluation, _ in drawn]
    return element(
        "figure",
        element("h3", kind.title),
        _drawing(kind, [(place, curve) for place, _, curve in drawn], described),
        element(
            "figcaption", element("ul", *entries, *_compared_with(kind), class_="legend"), element("p", kind.about)
        ),
        class_="chart",
    )


def _drawing(kind: Kind, curves: Sequence[tuple[int, Curve]], described: str) -> Markup:
    plot = _plot(kind, [curve for _, curve in curves])
    return chart_svg(
        f"{kind.title}: {kind.y} over {kind.x}",
        described,
        plot.grid(),
        _diagonal(plot) if kind.diagonal else Markup(),
        *(_curve(plot, kind, curve, place) for place, curve in curves),
    )


def _plot(kind: Kind, curves: Sequence[Curve]) -> Plot:
    if kind.diagonal:
        return Plot(Axis(kind.x, 0.2, 5), Axis(kind.y, 0.2, 5))
    x = [value for curve in curves for value in curve.x]
    y = [value for curve in curves for value in (*curve.y, *(curve.reference or ()))]
    return Plot(Axis.from_zero(kind.x, _highest(x)), Axis.from_zero(kind.y, _highest(y)))


def _highest(values: Iterable[float]) -> float:
    return max(filter(math.isfinite, values), default=1.0)


def _curve(plot: Plot, kind: Kind, curve: Curve, place: int) -> Markup:
    drawn = element("path", d=plot.path(curve.x, curve.y), class_="curve")
    dots = (
        plot.dot(x, y, radius, f"{kind.x} {x:.3g}: {kind.y} {number(y)}")
        for x, y, radius in zip(curve.x, curve.y, _radii(curve), strict=False)
        if math.isfinite(x) and math.isfinite(y)
    )
    compared = Markup()
    if curve.reference and kind.reference:
        compared = element("path", d=plot.path(curve.x, curve.reference), class_="reference")
    return element("g", compared, drawn, *dots, class_=series_class(place))


def _radii(curve: Curve) -> list[float]:
    """Of the points of a curve: their areas are as their weights; none for long curves without weights."""
    if curve.weights:
        heaviest = max(curve.weights)
        return [max(_SMALLEST_POINT, LARGEST_POINT * math.sqrt(weight / heaviest)) for weight in curve.weights]
    return [_PLAIN_POINT] * len(curve.x) if len(curve.x) <= _DOTTED_UP_TO else []


def _diagonal(plot: Plot) -> Markup:
    return line(*plot.position(0, 0), *plot.position(1, 1), style="diagonal")


def _compared_with(kind: Kind) -> list[Markup]:
    """The legend's entries for what is no selection."""
    styles = (("reference", kind.reference), ("diagonal", kind.diagonal))
    return [element("li", element("span", class_=f"sample {style}"), text) for style, text in styles if text]


def _ends(kind: Kind, curve: Curve) -> str:
    """A curve in a few words: where it starts and where it ends."""
    known = [point for point in zip(curve.x, curve.y, strict=True) if all(map(math.isfinite, point))]
    if not known:
        return "no values"
    start, end = known[0], known[-1]
    return f"{kind.y} {number(start[1])} at {start[0]:.3g}, {number(end[1])} at {end[0]:.3g}"
