"""The charts of the report; every selection has its own colour."""

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
"""Curves with more points than this and without weights are drawn without dots."""


@dataclass(frozen=True)
class CurveStyle:
    """How the curves of one name are drawn.

    title, x, y, about: the texts of the chart. reference: the legend of the reference curve. diagonal: the legend of
    the line y = x; empty for none.
    """

    title: str
    x: str
    y: str
    about: str = ""
    reference: str = ""
    diagonal: str = ""


CURVE_STYLES = {
    "pck": CurveStyle(
        "Correct keypoints", f"tolerance {ALPHA}", "PCK", f"Share of keypoints within {ALPHA} of the truth."
    ),
    "sparsification": CurveStyle(
        "Sparsification",
        "share of matches dropped, least confident first",
        "share wrong among the rest",
        "The nearer to the oracle, the better confidence ranks errors.",
        reference="oracle: wrong ones first",
    ),
    "calibration": CurveStyle(
        "Calibration",
        "confidence",
        "share correct",
        "Above the diagonal, confidence is too low; below, too high. Area of a point: share of all matches.",
        diagonal="perfect calibration",
    ),
    "pcr": CurveStyle(
        "Correct regions", f"tolerance τ of 1 {MINUS} IoU", "PCR", f"Share of regions with 1 {MINUS} IoU below τ."
    ),
    "miou": CurveStyle("Overlap of the first k regions", "k", "mean IoU", "Mean IoU of the k most confident regions."),
}
"""Curve styles by name, in the order of the page."""


def chart_section(evaluations: Sequence[Evaluation]) -> Markup:
    """A chart for every curve name; empty if there are no curves."""
    present = dict.fromkeys(curve.name for each in evaluations for curve in each.curves)
    names = [name for name in CURVE_STYLES if name in present] + [name for name in present if name not in CURVE_STYLES]
    charts = (_figure(CURVE_STYLES.get(name, CurveStyle(name, "x", "y")), name, evaluations) for name in names)
    return element("div", *charts, class_="charts") if names else Markup()


def _figure(style: CurveStyle, name: str, evaluations: Sequence[Evaluation]) -> Markup:
    drawn = [
        (place, evaluation, curve)
        for place, evaluation in enumerate(evaluations)
        for curve in evaluation.curves
        if curve.name == name
    ]
    description = "; ".join(f"{selection_name(evaluation)}: {_ends(style, curve)}" for _, evaluation, curve in drawn)
    entries = [element("li", selection_label(evaluation, place)) for place, evaluation, _ in drawn]
    return element(
        "figure",
        element("h3", style.title),
        _drawing(style, [(place, curve) for place, _, curve in drawn], description),
        element(
            "figcaption", element("ul", *entries, *_other_entries(style), class_="legend"), element("p", style.about)
        ),
        class_="chart",
    )


def _drawing(style: CurveStyle, curves: Sequence[tuple[int, Curve]], description: str) -> Markup:
    plot = _plot(style, [curve for _, curve in curves])
    return chart_svg(
        f"{style.title}: {style.y} over {style.x}",
        description,
        plot.grid(),
        _diagonal(plot) if style.diagonal else Markup(),
        *(_curve(plot, style, curve, place) for place, curve in curves),
    )


def _plot(style: CurveStyle, curves: Sequence[Curve]) -> Plot:
    if style.diagonal:
        return Plot(Axis(style.x, 0.2, 5), Axis(style.y, 0.2, 5))
    x = [value for curve in curves for value in curve.x]
    y = [value for curve in curves for value in (*curve.y, *(curve.reference or ()))]
    return Plot(Axis.from_zero(style.x, _highest(x)), Axis.from_zero(style.y, _highest(y)))


def _highest(values: Iterable[float]) -> float:
    return max(filter(math.isfinite, values), default=1.0)


def _curve(plot: Plot, style: CurveStyle, curve: Curve, place: int) -> Markup:
    drawn = element("path", d=plot.path(curve.x, curve.y), class_="curve")
    dots = (
        plot.dot(x, y, radius, f"{style.x} {x:.3g}: {style.y} {number(y)}")
        for x, y, radius in zip(curve.x, curve.y, _radii(curve), strict=False)
        if math.isfinite(x) and math.isfinite(y)
    )
    compared = Markup()
    if curve.reference and style.reference:
        compared = element("path", d=plot.path(curve.x, curve.reference), class_="reference")
    return element("g", compared, drawn, *dots, class_=series_class(place))


def _radii(curve: Curve) -> list[float]:
    """The radii of a curve's dots: areas proportional to the weights; none for long curves without weights."""
    if curve.weights:
        heaviest = max(curve.weights)
        return [max(_SMALLEST_POINT, LARGEST_POINT * math.sqrt(weight / heaviest)) for weight in curve.weights]
    return [_PLAIN_POINT] * len(curve.x) if len(curve.x) <= _DOTTED_UP_TO else []


def _diagonal(plot: Plot) -> Markup:
    return line(*plot.position(0, 0), *plot.position(1, 1), style="diagonal")


def _other_entries(style: CurveStyle) -> list[Markup]:
    """The legend entries other than selections."""
    entries = (("reference", style.reference), ("diagonal", style.diagonal))
    return [element("li", element("span", class_=f"sample {name}"), text) for name, text in entries if text]


def _ends(style: CurveStyle, curve: Curve) -> str:
    """The first and last value of a curve, in words."""
    known = [point for point in zip(curve.x, curve.y, strict=True) if all(map(math.isfinite, point))]
    if not known:
        return "no values"
    start, end = known[0], known[-1]
    return f"{style.y} {number(start[1])} at {start[0]:.3g}, {number(end[1])} at {end[0]:.3g}"
