"""The colours of pictures: flow, confidence and keypoints."""

from __future__ import annotations

import colorsys
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Colour = tuple[int, int, int, int]
"""Red, green, blue and opacity in 0..255."""

CONFIDENCE_RAMP = ((29, 22, 66), (47, 72, 130), (38, 130, 142), (94, 188, 118), (251, 240, 160))
"""Dark blue through teal to pale yellow: lightness rises evenly, so it also reads in grey."""
_LEVELS = 1024
"""Steps of the ramp: fewer than one of 255 shades lies between two."""

_WHEEL_STEPS = (15, 6, 4, 11, 13, 6)
"""Steps between red, yellow, green, cyan, blue, magenta and red again: perceptually about even."""
_BETWEEN = 32
"""Shades for each step of the wheel: a channel changes by at most 2 from one to the next."""
_WHEEL_CORNERS = ((255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255), (255, 0, 0))


def colour_wheel() -> NDArray[np.uint8]:
    """The Middlebury colour wheel, (55, 3): from flow to the left through up, right and down.

    Source: Baker et al., A Database and Evaluation Methodology for Optical Flow, IJCV 2011.
    """
    corners = pairwise(np.array(_WHEEL_CORNERS, dtype=np.float64))
    arcs = [
        start + np.arange(steps)[:, None] / steps * (end - start)
        for steps, (start, end) in zip(_WHEEL_STEPS, corners, strict=True)
    ]
    return np.concatenate(arcs).astype(np.uint8)


def colour_flow(flow: NDArray[np.float32], longest: float) -> NDArray[np.uint8]:
    """Middlebury colours (..., 3) of a flow (2, ...): the hue is the direction.

    White is no motion, full colour is the length ``longest``; longer flow is darkened.
    """
    shades = _fine_wheel()
    x, y = flow / np.float32(max(longest, 1e-6))
    turn = np.arctan2(-y, -x)  # in float32, as all else: pictures are drawn for every pair of a batch
    turn *= np.float32((len(shades) - 1) / (2 * np.pi))
    turn += np.float32(len(shades) / 2)  # half a shade more, so that the nearest is taken
    direction = turn.astype(np.intp)
    length = np.hypot(x, y)
    within = length <= 1
    depth = np.where(within, -length, np.float32(-0.75))
    white = np.where(within, np.float32(255), np.float32(0.75 * 255))
    colours = np.empty((*direction.shape, 3), np.uint8)
    for channel, lacking in enumerate(shades.T):
        colour = lacking.take(direction, mode="clip")
        colour *= depth
        colour += white
        colours[..., channel] = colour
    return colours


@cache
def _fine_wheel() -> NDArray[np.float32]:
    """What the shades (n, 3) of all directions, the first one again at the end, lack of white."""
    wheel = colour_wheel().astype(np.float64)
    at = np.arange((len(wheel) - 1) * _BETWEEN + 1) / _BETWEEN
    shades = np.stack([np.interp(at, np.arange(len(wheel)), channel) for channel in wheel.T], axis=1)
    return (255 - shades).astype(np.float32)


def flow_picture(flow: NDArray[np.float32]) -> Image.Image:
    """A flow (2, H, W) in Middlebury colours, full at its longest displacement."""
    return Image.fromarray(colour_flow(flow, float(np.hypot(*flow).max())))


@cache
def wheel_picture(diameter: int) -> Image.Image:
    """The colours of `flow_picture` on a disc of white paper: a displacement points from the centre to its colour."""
    side = 4 * diameter
    y, x = (np.indices((side, side), dtype=np.float32) + 0.5) / (side / 2) - 1
    colours = colour_flow(np.stack((x, y)), 1.0)
    colours[np.hypot(x, y) > 1] = 255
    return Image.fromarray(colours).resize((diameter, diameter), Image.Resampling.BOX)


def confidence_picture(confidence: NDArray[np.float32]) -> Image.Image:
    """Confidence (H, W) in [0, 1] in colours: dark is 0, pale yellow is 1."""
    levels = np.rint(confidence * np.float32(_LEVELS)).clip(0, _LEVELS).astype(np.intp)
    return Image.fromarray(np.take(_fine_ramp(), levels, axis=0))


@cache
def _fine_ramp() -> NDArray[np.uint8]:
    """The colours (`_LEVELS` + 1, 3) of even steps of confidence from 0 to 1."""
    stops, at = np.linspace(0, 1, len(CONFIDENCE_RAMP)), np.linspace(0, 1, _LEVELS + 1)
    channels = np.array(CONFIDENCE_RAMP, dtype=np.float64).T
    return np.stack([np.interp(at, stops, channel) for channel in channels], axis=1).round().astype(np.uint8)


def keypoint_colours(count: int) -> list[Colour]:
    """``count`` evenly spaced hues, those of successive keypoints far apart."""
    step = next((s for s in range(round(0.38 * count), count) if np.gcd(s, count) == 1), 1)
    hues = [k * step % count / count for k in range(count)]
    shades = (colorsys.hsv_to_rgb(hue, 0.82, (0.98, 0.8)[k % 2]) for k, hue in enumerate(hues))
    return [(round(255 * red), round(255 * green), round(255 * blue), 255) for red, green, blue in shades]
