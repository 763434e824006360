"""Logs of trainings as a page of charts, one for every number in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from geomatch.training.monitoring.log import TrainingLog
from geomatch.visualize.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Plot,
    chart_svg,
    series_class,
    series_label,
)
from geomatch.visualize.markup import Markup, element
from geomatch.visualize.page import html_page

SMOOTHING = 0.01
"""Standard deviation of the smoothing along the steps, as a share of a log's length."""

COLUMNS = 300
"""Longer curves are reduced to the lowest and the highest value of each of as many sections."""

STYLE = """
.runs { display: grid; gap: .2rem; margin: 1rem 0 2.5rem; font-size: 1rem }
.runs .label { overflow-wrap: anywhere; font-weight: 650 }
.raw { fill: none; stroke: currentColor; stroke-width: 1; stroke-linejoin: round; opacity: .28 }
.best { fill: none; stroke: currentColor; stroke-width: 1.6 }
""".strip()


@dataclass(frozen=True)
class CurveStyle:
    """How a number is drawn: its title, what it means, whether its axis starts at 0, whether it has few points."""

    title: str
    about: str = ""
    from_zero: bool = False
    points: bool = False


LOSSES = {
    "loss": CurveStyle("Loss", "What is minimised: its terms, weighted."),
    "likelihood": CurveStyle("Likelihood term", "Negative log-likelihood of the scores of labelled pairs of points."),
    "contrastive": CurveStyle("Contrastive term", "Cross-entropy of finding keypoints among all cells of a view."),
    "similarity": CurveStyle("Similarity term", "Mean squared difference to the teacher's similarities of cells."),
}
OTHERS = {
    "sigma": CurveStyle("Sigma", "Mean inverse confidence over the cells of a step."),
    "validation": CurveStyle("Validation", "Score of the final weights so far; the ring marks the best.", points=True),
    "seconds": CurveStyle("Seconds a step", from_zero=True),
}
"""Numbers with a style of their own. The page has `LOSSES` first and `OTHERS` last; any other number is a term."""


@dataclass(frozen=True)
class Run:
    """One log's curve of a number; ``index`` is the log's index among all."""

    index: int
    name: str
    steps: NDArray[np.float64]
    values: NDArray[np.float64]

    @property
    def smooth(self) -> NDArray[np.float64]:
        """The values averaged over their neighbours along the steps, without those that are not finite."""
        known = np.isfinite(self.values)
        deviation = SMOOTHING * len(self.values)
        total = gaussian_filter1d(np.where(known, self.values, 0.0), deviation, mode="constant")
        weight = gaussian_filter1d(known.astype(float), deviation, mode="constant")
        return np.where(known, total / np.where(known, weight, 1.0), np.nan)


def training_page(logs: Mapping[str, TrainingLog]) -> str:
    """An HTML page that loads nothing from anywhere: every number of the logs (by name) over the steps.

    A smoothed curve lies over the faint values as logged; validations are points. The same logs give the same page.
    """
    present = dict.fromkeys(number for log in logs.values() for number in log.curves)
    terms = [number for number in present if number not in LOSSES | OTHERS]
    numbers = [number for number in (*LOSSES, *terms, *OTHERS) if number in present]
    runs = (
        element("li", series_label(name, index), f" {_facts(log)}") for index, (name, log) in enumerate(logs.items())
    )
    return html_page(
        "Training",
        element(
            "header",
            element("p", "geomatch", class_="eyebrow"),
            element("h1", "Training"),
            element("ul", *runs, class_="legend runs"),
        ),
        element("main", _area(), element("div", *(_figure(number, logs) for number in numbers), class_="charts")),
        style=STYLE,
    )


def _facts(log: TrainingLog) -> str:
    facts = []
    if "loss" in log.curves:
        facts.append(f"{log.curves['loss'][0][-1] + 1:,} steps")
    if "seconds" in log.curves:
        facts.append(f"{sum(log.curves['seconds'][1]) / 60:,.1f} minutes")
    if log.unreadable:
        facts.append(f"{len(log.unreadable)} unreadable: {', '.join(log.unreadable[:3])}")
    return " · ".join(facts)


def _figure(number: str, logs: Mapping[str, TrainingLog]) -> Markup:
    style = (LOSSES | OTHERS).get(number, CurveStyle(number))
    runs = [
        Run(index, name, *(np.asarray(side, float) for side in log.curves[number]))
        for index, (name, log) in enumerate(logs.items())
        if number in log.curves
    ]
    plot = Plot(Axis.from_zero("steps", max(run.steps[-1] for run in runs)), _vertical(style, runs))
    if style.points:
        curves = [_points(plot, run) for run in runs]
    else:
        curves = [_line(plot, run, run.values, "raw") for run in runs]
        curves += [_line(plot, run, run.smooth, "curve") for run in runs]
    summaries = [(run, _summary(style, run)) for run in runs]
    return element(
        "figure",
        element("h3", style.title),
        chart_svg(
            f"{style.title} over steps",
            "; ".join(f"{run.name}: {words}" for run, words in summaries),
            plot.grid(),
            *curves,
        ),
        element(
            "figcaption",
            element(
                "ul", *(element("li", series_label(words, run.index)) for run, words in summaries), class_="legend"
            ),
            element("p", style.about),
        ),
        class_="chart",
    )


def _area() -> Markup:
    """The plotting area of all charts, to which curves are clipped."""
    inside = element("rect", x=LEFT, y=TOP, width=WIDTH - LEFT - RIGHT, height=HEIGHT - TOP - BOTTOM)
    return element("svg", element("clipPath", inside, id="area"), width=0, height=0, aria_hidden="true")


def _vertical(style: CurveStyle, runs: Sequence[Run]) -> Axis:
    """An axis for all smoothed curves and all but the outermost hundredths of the values as logged."""
    values = np.concatenate([run.values[np.isfinite(run.values)] for run in runs])
    if not len(values):
        return Axis.from_zero("", 1.0)
    if style.points:
        return Axis.spanning("", values.min(), values.max())
    curves = np.concatenate([run.smooth for run in runs])
    low, high = np.quantile(values, [0.01, 0.99])
    low, high = min(low, np.nanmin(curves)), max(high, np.nanmax(curves))
    return Axis.from_zero("", high) if style.from_zero else Axis.spanning("", low, high)


def _line(plot: Plot, run: Run, values: NDArray[np.float64], style: str) -> Markup:
    path = element("path", d=plot.path(*_thinned(run.steps, values)), class_=style)
    return element("g", path, clip_path="url(#area)", class_=series_class(run.index))


def _points(plot: Plot, run: Run) -> Markup:
    known = np.isfinite(run.values)
    points = list(zip(run.steps[known], run.values[known], strict=True))
    dots = [plot.dot(step, value, 2.5, _at(step, value)) for step, value in points]
    if points:
        best = max(points, key=lambda point: point[1])
        dots.append(plot.dot(*best, 6, f"best: {_at(*best)}", style="best"))
    return element(
        "g", element("path", d=plot.path(run.steps, run.values), class_="curve"), *dots, class_=series_class(run.index)
    )


def _thinned(
    steps: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The lowest and the highest value of each of `COLUMNS` sections of a long curve; a short curve unchanged."""
    if len(values) <= 2 * COLUMNS:
        return steps, values
    chosen = []
    for section in np.array_split(np.arange(len(values)), COLUMNS):
        known = section[np.isfinite(values[section])]
        ends = known if len(known) else section[:1]
        chosen += sorted({ends[values[ends].argmin()], ends[values[ends].argmax()]})
    return steps[chosen], values[chosen]


def _summary(style: CurveStyle, run: Run) -> str:
    """A curve's result in a few words."""
    known = np.flatnonzero(np.isfinite(run.values))
    if not len(known):
        return "no values"
    if style.points:
        best = known[run.values[known].argmax()]
        return f"best {_at(run.steps[best], run.values[best])}"
    return f"{run.smooth[known[-1]]:.4g} at the end"


def _at(step: float, value: float) -> str:
    return f"{value:.4g} after {step:,.0f} steps"
