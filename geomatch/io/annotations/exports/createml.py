"""Boxes of Apple's Create ML, as Roboflow exports them, read as labelme documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from geomatch.io.annotations.exports.shapes import Choose, Document, labelme_document, rectangle
from geomatch.io.annotations.omissions import Omissions
from geomatch.io.parsing import position


def is_createml(document: object) -> bool:
    """Whether a document is a list of images, each with its annotations."""
    return (
        isinstance(document, list)
        and bool(document)
        and all(isinstance(image, dict) and isinstance(image.get("annotations"), list) for image in document)
        and all(_name_of(image) for image in document)
    )


def read_createml(document: Sequence[Mapping[str, Any]], choose: Choose, omissions: Omissions) -> Document:
    """One image of a document; ``omissions`` takes damaged annotations. A box is given by its centre and its sides."""
    images = {_name_of(image): image["annotations"] for image in document}
    shapes = []
    for number, annotation in enumerate(images[choose(images)], 1):
        with omissions.tolerated(f"annotation {number}"):
            x, y, width, height = (position(annotation["coordinates"][side]) for side in ("x", "y", "width", "height"))
            shapes.append(rectangle(annotation.get("label"), x - width / 2, y - height / 2, width, height))
    return labelme_document(shapes)


def _name_of(image: Mapping[str, Any]) -> str:
    return next((image[key] for key in ("image", "imagefilename") if isinstance(image.get(key), str)), "")
