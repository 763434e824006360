import math

import numpy as np
import pytest

from geomatch.visualize.colours import colour_flow, colour_wheel


def test_colour_wheel_equals_middlebury() -> None:
    """Against the loops of its colorcode.cpp."""
    expected = (
        [(255, 255 * i // 15, 0) for i in range(15)]
        + [(255 - 255 * i // 6, 255, 0) for i in range(6)]
        + [(0, 255, 255 * i // 4) for i in range(4)]
        + [(0, 255 - 255 * i // 11, 255) for i in range(11)]
        + [(255 * i // 13, 0, 255) for i in range(13)]
        + [(255, 0, 255 - 255 * i // 6) for i in range(6)]
    )
    np.testing.assert_allclose(colour_wheel(), expected, atol=1)  # it rounds what falls down, we what is left


@pytest.mark.parametrize("length", [0.0, 0.3, 1.0, 1.7])
def test_colour_flow_equals_middlebury(length: float) -> None:
    for angle in np.linspace(0, 2 * math.pi, 37):
        x, y = length * math.cos(angle), length * math.sin(angle)
        turn = (math.atan2(-y, -x) / math.pi + 1) / 2 * 54
        k = int(turn)
        for channel, found in enumerate(colour_flow(np.array([[5 * x], [5 * y]], dtype=np.float32), 5.0)[0]):
            here, there = (float(colour_wheel()[step % 55][channel]) for step in (k, k + 1))
            share = (1 - (turn - k)) * here / 255 + (turn - k) * there / 255
            share = 1 - math.hypot(x, y) * (1 - share) if length <= 1 else 0.75 * share
            assert abs(found - 255 * share) <= 2


def test_colour_flow_is_white_without_motion() -> None:
    assert (colour_flow(np.zeros((2, 3, 4), dtype=np.float32), 0.0) == 255).all()
