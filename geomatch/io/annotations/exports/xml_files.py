"""XML of CVAT (for images) and of PASCAL VOC, as labelImg writes it, read as labelme documents."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
from PIL import Image

from geomatch.errors import InputError
from geomatch.io.annotations.exports.shapes import Choose, Document, ellipse, labelme_document, shape, turned
from geomatch.io.annotations.omissions import Omissions
from geomatch.io.inputs import InputFile
from geomatch.io.parsing import MAX_MASK_PIXELS, position, whole_number


def read_xml(file: InputFile, choose: Choose, omissions: Omissions) -> Document:
    """One image of a file; ``omissions`` takes damaged items.

    Raises InputError if it is not XML, declares entities, which can hold any amount, or is of another kind.
    """
    if b"<!DOCTYPE" in file.content or b"<!ENTITY" in file.content:
        raise InputError(f"{file}: XML that declares entities is not read")
    try:
        root = ET.fromstring(file.content)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{file}: not XML ({error})") from error
    if root.tag == "annotations":
        return _read_cvat(root, choose, omissions)
    if root.tag == "annotation":
        return _read_voc(root, choose, omissions)
    raise InputError(f"{file}: neither CVAT's XML for images (<annotations>) nor PASCAL VOC's (<annotation>)")


def _read_voc(root: ET.Element, choose: Choose, omissions: Omissions) -> Document:
    choose([root.findtext("filename") or ""])
    shapes = []
    for number, item in enumerate(root.iter("object"), 1):
        with omissions.tolerated(f"object {number}"):
            sides = [item.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
            left, top, right, bottom = (position(side) for side in sides)
            shapes.append(shape("rectangle", item.findtext("name"), [(left, top), (right, bottom)]))
    return labelme_document(shapes, root.findtext("size/width"), root.findtext("size/height"))


def _read_cvat(root: ET.Element, choose: Choose, omissions: Omissions) -> Document:
    images = {image.get("name", ""): image for image in root.iter("image")}
    if not images and root.find("track") is not None:
        raise InputError(f"{omissions.origin}: has the tracks of a video; export it as CVAT for images")
    image = images[choose(images)]
    shapes: list[dict[str, Any]] = []
    for number, item in enumerate(image, 1):
        with omissions.tolerated(f"item {number}"):
            shapes += _shapes(item, f"{item.tag} {number}")
    return labelme_document(shapes, image.get("width"), image.get("height"))


def _shapes(item: ET.Element, own: str) -> Iterator[dict[str, Any]]:
    """The shapes of an element of CVAT. own: a name for its group, if it has several. Raises ValueError."""
    label, group = item.get("label"), item.get("group_id")
    match item.tag:
        case "box":
            left, top, right, bottom = (position(item.get(side)) for side in ("xtl", "ytl", "xbr", "ybr"))
            corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
            middle, angle = ((left + right) / 2, (top + bottom) / 2), math.radians(position(item.get("rotation", 0)))
            yield shape("rectangle", label, turned(corners, middle, angle), group_id=group)
        case "points":
            points = _points(item)
            if len(points) == 1:
                yield shape("point", label, points, group_id=group)
            else:
                one = {"group_id": group or own, "object": label}
                yield from (shape("point", number, [point], **one) for number, point in enumerate(points, 1))
        case "skeleton":
            for element in item.iter("points"):
                seen = 0 if element.get("outside") == "1" else 1 if element.get("occluded") == "1" else 2
                fields = {"group_id": group or own, "object": label, "visibility": seen}
                yield from (shape("point", element.get("label"), [point], **fields) for point in _points(element))
        case "polygon":
            yield shape("polygon", label, _points(item), group_id=group)
        case "ellipse":
            centre = item.get("cx"), item.get("cy")
            turn = math.radians(position(item.get("rotation", 0)))
            yield ellipse(label, *centre, item.get("rx"), item.get("ry"), turn)
        case "mask":
            yield _mask(item)
        case "tag":
            return
        case other:
            yield shape(other, label, [])


def _points(item: ET.Element) -> list[tuple[float, float]]:
    pairs = [point.split(",") for point in item.get("points", "").split(";") if point]
    return [(position(x), position(y)) for x, y in pairs]


def _mask(item: ET.Element) -> dict[str, Any]:
    """A mask, given as the lengths of its runs along the rows of a box, outside first."""
    left, top, width, height = (whole_number(item.get(side)) for side in ("left", "top", "width", "height"))
    runs = [whole_number(run) for run in item.get("rle", "").split(",")]
    if min(runs) < 0 or sum(runs) != width * height or width * height > MAX_MASK_PIXELS:
        raise ValueError(f"its runs do not fill its box of {width}x{height} pixels")
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    packed = io.BytesIO()
    Image.fromarray(inside).save(packed, "PNG")
    corners = [(left, top), (left + width - 1, top + height - 1)]
    return shape("mask", item.get("label"), corners, mask=base64.b64encode(packed.getvalue()).decode())
