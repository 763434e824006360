"""Line charts as inline SVG: axes with round ticks, curves, points. Colours and line styles are `page.THEME`'s."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from geomatch.visualize.markup import Markup, element, joined

WIDTH, HEIGHT = 360, 270
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 12, 44
"""Margins of the plotting area, in units of the drawing."""

SERIES = 8
"""Colours that tell curves apart; more curves start over."""

NOTHING, NO_DIFFERENCE = 1e-100, 1e-12
"""Ends of an axis closer to 0, or, relatively, to each other than this are not told apart."""

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Axis:
    """An axis with ``steps`` intervals between ticks that are multiples of ``step``, the lowest ``first`` times it."""

    label: str
    step: float
    steps: int
    first: int = 0

    @classmethod
    def reaching(cls, label: str, highest: float) -> Axis:
        """The shortest axis that holds 0 to ``highest``, with round ticks, at most six."""
        return cls.spanning(label, 0.0, highest if highest > 0 else 1.0)

    @classmethod
    def spanning(cls, label: str, lowest: float, highest: float) -> Axis:
        """The shortest axis that holds ``lowest`` to ``highest``, with round ticks, at most six."""
        lowest, highest = (end if abs(end) > NOTHING else 0.0 for end in (lowest, highest))
        if highest - lowest <= NO_DIFFERENCE * max(abs(lowest), abs(highest)):
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

    def share(self, value: float) -> float:
        """How far along the axis a value lies, in [0, 1] if it is on it."""
        return (value / self.step - self.first) / self.steps


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

    def path(self, x: Iterable[float], y: Iterable[float]) -> str:
        """A line through points, broken where there is no number."""
        commands, pen = [], "M"
        for point in zip(x, y, strict=True):
            if all(map(math.isfinite, point)):
                commands.append("{}{:g} {:g}".format(pen, *self.place(*point)))
                pen = "L"
            else:
                pen = "M"
        return "".join(commands)

    def dot(self, x: float, y: float, radius: float, words: str, style: str | None = None) -> Markup:
        """A point; a pointer resting on it brings up the words."""
        across, down = self.place(x, y)
        return element("circle", element("title", words), cx=across, cy=down, r=round(radius, 2), class_=style)

    def grid(self) -> Markup:
        """Lines at the ticks, the numbers beside them, and what the axes are."""
        bottom, middle = HEIGHT - BOTTOM, TOP + (HEIGHT - TOP - BOTTOM) / 2
        lowest = self.x.ticks[0], self.y.ticks[0]
        columns = ((self.place(tick, lowest[1])[0], _tick(tick)) for tick in self.x.ticks)
        rows = ((self.place(lowest[0], tick)[1], _tick(tick)) for tick in self.y.ticks)
        return element(
            "g",
            *(
                joined(line(x, TOP, x, bottom), element("text", text, x=x, y=bottom + 16, text_anchor="middle"))
                for x, text in columns
            ),
            *(
                joined(line(LEFT, y, WIDTH - RIGHT, y), element("text", text, x=LEFT - 7, y=y + 4, text_anchor="end"))
                for y, text in rows
            ),
            line(LEFT, bottom, WIDTH - RIGHT, bottom, style="axis"),
            element("text", self.x.label, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 8, text_anchor="middle"),
            element("text", self.y.label, transform=f"translate(12 {middle:g}) rotate(-90)", text_anchor="middle"),
            class_="grid",
        )


def drawing(title: str, described: str, *parts: Markup) -> Markup:
    """The parts of one chart as a picture, described for those who cannot see it."""
    return element(
        "svg",
        element("title", title),
        element("desc", described),
        *parts,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
    )


def line(x1: float, y1: float, x2: float, y2: float, style: str | None = None) -> Markup:
    """A straight line in units of the drawing."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=style)


def series(place: int) -> str:
    """The style class that gives the curves at this place their colour."""
    return f"series-{place % SERIES}"


def label(name: str, place: int) -> Markup:
    """A name behind a swatch of the colour that its curves have."""
    swatch = element("span", class_=f"swatch {series(place)}")
    return element("span", swatch, element("span", name), class_="label")


def _tick(value: float) -> str:
    return f"{value:g}".replace("-", MINUS)
