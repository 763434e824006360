"""The colours of pictures: flow, confidence and keypoints."""

from __future__ import annotations

import colorsys
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Colour = tuple[int, int, int, int]
"""Red, green, blue and opacity in 0..255."""

CONFIDENCE_RAMP = ((29, 22, 66), (47, 72, 130), (38, 130, 142), (94, 188, 118), (251, 240, 160))
"""Dark blue through teal to pale yellow: lightness rises evenly, so it also reads in grey."""

_WHEEL_STEPS = (15, 6, 4, 11, 13, 6)
"""Steps between red, yellow, green, cyan, blue, magenta and red again: perceptually about even."""
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
    wheel = colour_wheel().T.astype(np.float64)
    x, y = flow / max(longest, 1e-6)
    turn = (np.arctan2(-y, -x) / np.pi + 1) / 2 * (wheel.shape[1] - 1)
    step = np.floor(turn).astype(np.int64)
    fraction, following = turn - step, (step + 1) % wheel.shape[1]
    length = np.hypot(x, y)
    colours = np.empty((*length.shape, 3), dtype=np.uint8)
    for channel, shades in enumerate(wheel):  # one channel at a time halves the memory
        full = (1 - fraction) * shades[step] + fraction * shades[following]
        colours[..., channel] = np.where(length <= 1, 255 - length * (255 - full), 0.75 * full)
    return colours


def flow_picture(flow: NDArray[np.float32]) -> Image.Image:
    """A flow (2, H, W) in Middlebury colours, full at its longest displacement."""
    return Image.fromarray(colour_flow(flow, float(np.hypot(*flow).max())))


def wheel_picture(diameter: int) -> Image.Image:
    """The colours of `flow_picture` on a disc of white paper: a displacement points from the centre to its colour."""
    side = 4 * diameter
    y, x = (np.indices((side, side), dtype=np.float32) + 0.5) / (side / 2) - 1
    colours = colour_flow(np.stack((x, y)), 1.0)
    colours[np.hypot(x, y) > 1] = 255
    return Image.fromarray(colours).resize((diameter, diameter), Image.Resampling.BOX)


def confidence_picture(confidence: NDArray[np.float32]) -> Image.Image:
    """Confidence (H, W) in [0, 1] in colours: dark is 0, pale yellow is 1."""
    ramp = np.array(CONFIDENCE_RAMP, dtype=np.float64)
    stops = np.linspace(0, 1, len(ramp))
    colours = np.stack([np.interp(confidence, stops, ramp[:, channel]) for channel in range(3)], axis=-1)
    return Image.fromarray(colours.round().astype(np.uint8))


def keypoint_colours(count: int) -> list[Colour]:
    """``count`` evenly spaced hues, those of successive keypoints far apart."""
    step = next((s for s in range(round(0.38 * count), count) if np.gcd(s, count) == 1), 1)
    hues = [k * step % count / count for k in range(count)]
    shades = (colorsys.hsv_to_rgb(hue, 0.82, (0.98, 0.8)[k % 2]) for k, hue in enumerate(hues))
    return [(round(255 * red), round(255 * green), round(255 * blue), 255) for red, green, blue in shades]
