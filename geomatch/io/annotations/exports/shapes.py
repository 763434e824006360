"""Other tools' documents are read as labelme's, whose frame they share: these make its shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from geomatch.io.parsing import position

Document: TypeAlias = dict[str, Any]
Choose: TypeAlias = Callable[[Collection[str]], str]
"""Picks, among the names of a document's images, that of the one that is read. Raises InputError if it is not there."""

_ELLIPSE_CORNERS = 72


def labelme_document(shapes: Iterable[dict[str, Any]], width: object = None, height: object = None) -> Document:
    """What `read_labelme` reads; width, height: of the image, as the other document states them."""
    return {"shapes": list(shapes), "imageWidth": width, "imageHeight": height}


def shape(kind: str, label: object, points: Sequence[Sequence[object]], **fields: object) -> dict[str, Any]:
    """A shape of labelme. points: x, y of each. fields: others, as its ``group_id``."""
    return {"label": label, "shape_type": kind, "points": points, **fields}


def rectangle(
    label: object, left: object, top: object, width: object, height: object, turn: object = 0
) -> dict[str, Any]:
    """A rectangle, turned by degrees clockwise round its first corner. Raises ValueError."""
    x, y, across, down = (position(value) for value in (left, top, width, height))
    corners = [(x, y), (x + across, y), (x + across, y + down), (x, y + down)]
    return shape("rectangle", label, turned(corners, (x, y), math.radians(position(turn))))


def ellipse(
    label: object, x: object, y: object, radius_x: object, radius_y: object, turn: object = 0
) -> dict[str, Any]:
    """A polygon in the place of an ellipse, turned by radians clockwise round its centre. Raises ValueError."""
    centre_x, centre_y, across, down, angle = (position(value) for value in (x, y, radius_x, radius_y, turn))
    circle = [2 * math.pi * corner / _ELLIPSE_CORNERS for corner in range(_ELLIPSE_CORNERS)]
    corners = [(centre_x + across * math.cos(each), centre_y + down * math.sin(each)) for each in circle]
    return shape("polygon", label, turned(corners, (centre_x, centre_y), angle))


def turned(
    corners: Sequence[tuple[float, float]], centre: tuple[float, float], angle: float
) -> list[tuple[float, float]]:
    """Corners turned clockwise, as y points down, by an angle in radians."""
    cosine, sine = math.cos(angle), math.sin(angle)
    away = [(x - centre[0], y - centre[1]) for x, y in corners]
    return [(centre[0] + x * cosine - y * sine, centre[1] + x * sine + y * cosine) for x, y in away]


def chosen_label(attributes: object) -> object:
    """The label among the attributes that a user has given to a region: that of a common name, or else the first."""
    if not isinstance(attributes, Mapping):
        return attributes
    common = ("label", "name", "class", "category", "type", "keypoint", "part", "object")
    ranked = sorted(attributes, key=lambda key: common.index(key.lower()) if key.lower() in common else len(common))
    for value in (attributes[key] for key in ranked):
        if isinstance(value, Mapping):  # a choice of several: each with whether it is chosen
            value = next((choice for choice, chosen in value.items() if chosen), None)
        if value not in (None, ""):
            return value
    return None
