"""Line charts as inline SVG: axes with round ticks, curves, points. `page.THEME` has their colours and styles."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from geomatch.visualize.markup import Markup, element

WIDTH, HEIGHT = 360, 270
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 12, 44
"""Margins of the plotting area, in SVG units."""

SERIES = 8
"""Number of colours of curves; more curves begin again with the first colour."""

_ZERO, _RELATIVE_LENGTH = 1e-100, 1e-12
"""The end of an axis that is closer to 0 counts as 0; an axis that is relatively shorter is widened."""

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Axis:
    """An axis of ``steps`` intervals with ticks at multiples of ``step``; the lowest tick is ``first * step``."""

    label: str
    step: float
    steps: int
    first: int = 0

    @classmethod
    def from_zero(cls, label: str, highest: float) -> Axis:
        """The shortest axis that holds 0 to ``highest``, with round ticks, at most six."""
        return cls.spanning(label, 0.0, highest if highest > 0 else 1.0)

    @classmethod
    def spanning(cls, label: str, lowest: float, highest: float) -> Axis:
        """The shortest axis that holds ``lowest`` to ``highest``, with round ticks, at most six."""
        lowest, highest = (end if abs(end) > _ZERO else 0.0 for end in (lowest, highest))
        if highest - lowest <= _RELATIVE_LENGTH * max(abs(lowest), abs(highest)):
            margin = abs(lowest) / 10 or 1.0
            lowest, highest = lowest - margin, lowest + margin
        step = 10.0 ** math.floor(math.log10((highest - lowest) / 5))
        for factor in (1, 2, 5, 10, 20):
            first = math.floor(lowest / (factor * step) + 1e-9)
            steps = math.ceil(highest / (factor * step) - 1e-9) - first
            if steps <= 5:
                break
        return cls(label, factor * step, steps, first)

    @property
    def ticks(self) -> list[float]:
        return [step * self.step for step in range(self.first, self.first + self.steps + 1)]

    def fraction(self, value: float) -> float:
        """The position of a value along the axis: 0 at its lowest tick, 1 at its highest."""
        return (value / self.step - self.first) / self.steps


@dataclass(frozen=True)
class Plot:
    """The plotting area between two axes."""

    x: Axis
    y: Axis

    def position(self, x: float, y: float) -> tuple[float, float]:
        """A point in SVG units, rounded to a hundredth."""
        across = LEFT + self.x.fraction(x) * (WIDTH - LEFT - RIGHT)
        down = TOP + (1 - self.y.fraction(y)) * (HEIGHT - TOP - BOTTOM)
        return round(across, 2), round(down, 2)

    def path(self, x: Iterable[float], y: Iterable[float]) -> str:
        """SVG path data through points, interrupted where a value is not finite."""
        commands, pen = [], "M"
        for point in zip(x, y, strict=True):
            if all(map(math.isfinite, point)):
                commands.append("{}{:g} {:g}".format(pen, *self.position(*point)))
                pen = "L"
            else:
                pen = "M"
        return "".join(commands)

    def dot(self, x: float, y: float, radius: float, tooltip: str, style: str | None = None) -> Markup:
        across, down = self.position(x, y)
        return element("circle", element("title", tooltip), cx=across, cy=down, r=round(radius, 2), class_=style)

    def grid(self) -> Markup:
        """Lines at the ticks, the numbers beside them, and the labels of the axes."""
        right, bottom, middle = WIDTH - RIGHT, HEIGHT - BOTTOM, TOP + (HEIGHT - TOP - BOTTOM) / 2
        parts = []
        for tick in self.x.ticks:
            x, _ = self.position(tick, self.y.ticks[0])
            parts += [line(x, TOP, x, bottom), element("text", _tick(tick), x=x, y=bottom + 16, text_anchor="middle")]
        for tick in self.y.ticks:
            _, y = self.position(self.x.ticks[0], tick)
            parts += [line(LEFT, y, right, y), element("text", _tick(tick), x=LEFT - 7, y=y + 4, text_anchor="end")]
        parts += [
            line(LEFT, bottom, right, bottom, style="axis"),
            element("text", self.x.label, x=(LEFT + right) / 2, y=HEIGHT - 8, text_anchor="middle"),
            element("text", self.y.label, transform=f"translate(12 {middle:g}) rotate(-90)", text_anchor="middle"),
        ]
        return element("g", *parts, class_="grid")


def chart_svg(title: str, description: str, *parts: Markup) -> Markup:
    """The parts of one chart as an SVG image; screen readers read its title and description."""
    return element(
        "svg",
        element("title", title),
        element("desc", description),
        *parts,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
    )


def line(x1: float, y1: float, x2: float, y2: float, style: str | None = None) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=style)


def series_class(index: int) -> str:
    """The CSS class with the colour of the curves of one series."""
    return f"series-{index % SERIES}"


def series_label(name: str, index: int) -> Markup:
    """A swatch of the colour of a series, and its name."""
    swatch = element("span", class_=f"swatch {series_class(index)}")
    return element("span", swatch, element("span", name), class_="label")


def _tick(value: float) -> str:
    return f"{value:g}".replace("-", MINUS)
