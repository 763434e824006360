import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geomatch.visualize.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, Plot


@pytest.mark.parametrize(
    ("highest", "ticks"),
    [
        (1.0, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.31, [0, 0.1, 0.2, 0.3, 0.4]),
        (0.3, [0, 0.1, 0.2, 0.3]),
        (100, [0, 20, 40, 60, 80, 100]),
        (0.0021, [0, 0.0005, 0.001, 0.0015, 0.002, 0.0025]),
        (0, [0, 0.2, 0.4, 0.6, 0.8, 1]),
    ],
)
def test_axis_from_zero_ends_at_round_number(highest: float, ticks: list[float]) -> None:
    assert Axis.from_zero("", highest).ticks == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("lowest", "highest", "ticks"),
    [
        (-0.672, -0.447, [-0.7, -0.6, -0.5, -0.4]),
        (-1.2, 3.1, [-2, 0, 2, 4]),
        (0.225, 0.267, [0.22, 0.23, 0.24, 0.25, 0.26, 0.27]),
        (2, 2, [1.8, 1.9, 2.0, 2.1, 2.2]),
        (2, 2 + 1e-15, [1.8, 1.9, 2.0, 2.1, 2.2]),
        (0, 5e-324, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_axis_spanning_begins_and_ends_at_round_numbers(lowest: float, highest: float, ticks: list[float]) -> None:
    assert Axis.spanning("", lowest, highest).ticks == pytest.approx(ticks)


@given(st.floats(-1e6, 1e6), st.floats(1e-2, 1e6))
def test_axis_holds_its_range_with_two_to_six_ticks(lowest: float, length: float) -> None:
    axis = Axis.spanning("", lowest, lowest + length)
    slack = 1e-6 * axis.step
    assert axis.ticks[0] <= lowest + slack
    assert axis.ticks[-1] >= lowest + length - slack
    assert 2 <= len(axis.ticks) <= 6
    assert axis.fraction(axis.ticks[0]) == pytest.approx(0, abs=1e-6)
    assert axis.fraction(axis.ticks[-1]) == pytest.approx(1)


def test_plot_corners_are_the_ends_of_the_axes() -> None:
    plot = Plot(Axis.spanning("", 10, 20), Axis.spanning("", -4, -2))
    assert plot.position(10, -4) == (LEFT, HEIGHT - BOTTOM)
    assert plot.position(20, -2) == (WIDTH - RIGHT, TOP)


def test_plot_path_is_interrupted_at_nan() -> None:
    plot = Plot(Axis.from_zero("", 4), Axis.from_zero("", 1))
    assert plot.path([0, 1, 2, 3], [0, 1, math.nan, 1]).count("M") == 2
