"""Curves as inline SVG, every selection in its own colour."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from geomatch.evaluation.report.markup import Markup, element, joined
from geomatch.evaluation.report.wording import ALPHA, MINUS, number, selection_label, selection_name, series
from geomatch.evaluation.results import Curve, Evaluation

WIDTH, HEIGHT = 360, 270
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 12, 44
"""Margins of the plotting area, in units of the drawing."""

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


@dataclass(frozen=True)
class Axis:
    """An axis that starts at 0, with a tick every ``step``."""

    label: str
    step: float
    steps: int

    @classmethod
    def reaching(cls, label: str, highest: float) -> Axis:
        """The shortest axis that holds 0 to ``highest``, with round ticks, at most six."""
        highest = highest if highest > 0 else 1.0
        magnitude = 10.0 ** math.floor(math.log10(highest / 5))
        step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude * 5 >= highest * (1 - 1e-9))
        return cls(label, step, math.ceil(highest / step - 1e-9))

    @property
    def ticks(self) -> list[float]:
        return [step * self.step for step in range(self.steps + 1)]

    def share(self, value: float) -> float:
        """How far along the axis a value lies, in [0, 1] if it is on it."""
        return value / (self.step * self.steps)


@dataclass(frozen=True)
class Plot:
    """The plotting area between two axes."""

    x: Axis
    y: Axis

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies in the drawing, to a hundredth."""
        across, up = self.x.share(x), self.y.share(y)
        return (
            round(LEFT + across * (WIDTH - LEFT - RIGHT), 2),
            round(TOP + (1 - up) * (HEIGHT - TOP - BOTTOM), 2),
        )

    def path(self, x: Sequence[float], y: Sequence[float]) -> str:
        """A line through points, broken where there is no number."""
        commands, pen = [], "M"
        for point in zip(x, y, strict=True):
            if all(map(math.isfinite, point)):
                commands.append("{}{:g} {:g}".format(pen, *self.place(*point)))
                pen = "L"
            else:
                pen = "M"
        return "".join(commands)


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
    return element(
        "svg",
        element("title", f"{kind.title}: {kind.y} over {kind.x}"),
        element("desc", described),
        _grid(plot),
        _diagonal(plot) if kind.diagonal else Markup(),
        *(_curve(plot, kind, curve, place) for place, curve in curves),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
    )


def _plot(kind: Kind, curves: Sequence[Curve]) -> Plot:
    if kind.diagonal:
        return Plot(Axis(kind.x, 0.2, 5), Axis(kind.y, 0.2, 5))
    x = [value for curve in curves for value in curve.x]
    y = [value for curve in curves for value in (*curve.y, *(curve.reference or ()))]
    return Plot(Axis.reaching(kind.x, _highest(x)), Axis.reaching(kind.y, _highest(y)))


def _highest(values: Iterable[float]) -> float:
    return max(filter(math.isfinite, values), default=1.0)


def _curve(plot: Plot, kind: Kind, curve: Curve, place: int) -> Markup:
    line = element("path", d=plot.path(curve.x, curve.y), class_="curve")
    dots = (
        _dot(plot, kind, x, y, radius)
        for x, y, radius in zip(curve.x, curve.y, _radii(curve), strict=False)
        if math.isfinite(x) and math.isfinite(y)
    )
    compared = Markup()
    if curve.reference and kind.reference:
        compared = element("path", d=plot.path(curve.x, curve.reference), class_="reference")
    return element("g", compared, line, *dots, class_=series(place))


def _radii(curve: Curve) -> list[float]:
    """Of the points of a curve: their areas are as their weights; none for long curves without weights."""
    if curve.weights:
        heaviest = max(curve.weights)
        return [max(_SMALLEST_POINT, LARGEST_POINT * math.sqrt(weight / heaviest)) for weight in curve.weights]
    return [_PLAIN_POINT] * len(curve.x) if len(curve.x) <= _DOTTED_UP_TO else []


def _dot(plot: Plot, kind: Kind, x: float, y: float, radius: float) -> Markup:
    """A point, whose values a pointer resting on it brings up."""
    across, down = plot.place(x, y)
    values = element("title", f"{kind.x} {x:.3g}: {kind.y} {number(y)}")
    return element("circle", values, cx=across, cy=down, r=round(radius, 2))


def _grid(plot: Plot) -> Markup:
    """Lines at the ticks, the numbers beside them, and what the axes are."""
    bottom, middle = HEIGHT - BOTTOM, TOP + (HEIGHT - TOP - BOTTOM) / 2
    columns = ((plot.place(tick, 0)[0], f"{tick:g}") for tick in plot.x.ticks)
    rows = ((plot.place(0, tick)[1], f"{tick:g}") for tick in plot.y.ticks)
    return element(
        "g",
        *(
            joined(_line(x, TOP, x, bottom), element("text", text, x=x, y=bottom + 16, text_anchor="middle"))
            for x, text in columns
        ),
        *(
            joined(_line(LEFT, y, WIDTH - RIGHT, y), element("text", text, x=LEFT - 7, y=y + 4, text_anchor="end"))
            for y, text in rows
        ),
        _line(LEFT, bottom, WIDTH - RIGHT, bottom, style="axis"),
        element("text", plot.x.label, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 8, text_anchor="middle"),
        element("text", plot.y.label, transform=f"translate(12 {middle:g}) rotate(-90)", text_anchor="middle"),
        class_="grid",
    )


def _line(x1: float, y1: float, x2: float, y2: float, style: str | None = None) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=style)


def _diagonal(plot: Plot) -> Markup:
    return _line(*plot.place(0, 0), *plot.place(1, 1), style="diagonal")


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
