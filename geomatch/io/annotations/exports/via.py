"""Projects and exports of the VGG Image Annotator (VIA) 1 to 3, JSON or CSV, read as labelme documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from geomatch.io.annotations.exports.shapes import (
    Choose,
    Document,
    chosen_label,
    ellipse,
    labelme_document,
    rectangle,
    shape,
)
from geomatch.io.annotations.omissions import Omissions
from geomatch.io.json_text import parse_json
from geomatch.io.tables import Row

_DRAWN = "region_shape_attributes"
_VERSION_3 = (
    *[("", ()), ("point", ("cx", "cy")), ("rect", ("x", "y", "width", "height")), ("circle", ("cx", "cy", "r"))],
    *[("ellipse", ("cx", "cy", "rx", "ry")), ("line", ()), ("polyline", ()), ("polygon", ())],
)
"""Of each kind of shape in version 3 the name, and the names of its numbers in the versions before."""


def is_via(document: object) -> bool:
    """Whether a document is a project or an export of VIA."""
    if not isinstance(document, dict) or not document:
        return False
    if "_via_img_metadata" in document or _is_version_3(document):
        return True
    return all(isinstance(each, dict) and {"filename", "regions"} <= each.keys() for each in document.values())


def is_via_table(text: str) -> bool:
    """Whether a table was written by VIA, as its first line shows."""
    return _DRAWN in text.lstrip().partition("\n")[0]


def read_via(document: Mapping[str, Any], choose: Choose, omissions: Omissions) -> Document:
    """One image of a document; ``omissions`` takes damaged regions. Raises KeyError and the like for a damaged one."""
    shapes: list[dict[str, Any]] = []
    if _is_version_3(document):
        regions = _regions_of_version_3(document, choose)
    else:
        images = {str(image["filename"]): image for image in document.get("_via_img_metadata", document).values()}
        entries = images[choose(images)]["regions"] or []
        entries = entries.values() if isinstance(entries, dict) else entries
        regions = ((region["shape_attributes"], region.get("region_attributes")) for region in entries)
    for number, (drawn, attributes) in enumerate(regions, 1):
        with omissions.tolerated(f"region {number}"):
            shapes += _shapes(drawn, attributes)
    return labelme_document(shapes)


def read_via_table(rows: Sequence[Row], choose: Choose, omissions: Omissions) -> Document:
    """One image of a table that VIA has written; ``omissions`` takes damaged rows."""
    name = choose(dict.fromkeys(row.fields.get("filename", "") for row in rows))
    shapes: list[dict[str, Any]] = []
    for row in rows:
        if row.fields.get("filename") == name:
            with omissions.tolerated(row.origin):
                drawn = parse_json(row.fields.get(_DRAWN) or "{}", row.origin)
                if drawn:
                    shapes += _shapes(drawn, parse_json(row.fields.get("region_attributes") or "{}", row.origin))
    return labelme_document(shapes)


def _shapes(drawn: Mapping[str, Any], attributes: object) -> Iterator[dict[str, Any]]:
    """The shape of a region. Raises KeyError and ValueError."""
    label = chosen_label(attributes)
    match drawn["name"]:
        case "point":
            yield shape("point", label, [(drawn["cx"], drawn["cy"])])
        case "rect":
            yield rectangle(label, drawn["x"], drawn["y"], drawn["width"], drawn["height"])
        case "circle":
            yield ellipse(label, drawn["cx"], drawn["cy"], drawn["r"], drawn["r"])
        case "ellipse":
            yield ellipse(label, drawn["cx"], drawn["cy"], drawn["rx"], drawn["ry"], drawn.get("theta") or 0)
        case "polygon":
            yield shape("polygon", label, list(zip(drawn["all_points_x"], drawn["all_points_y"], strict=True)))
        case other:
            yield shape(str(other), label, [])


def _is_version_3(document: Mapping[str, Any]) -> bool:
    return all(isinstance(document.get(key), dict) for key in ("metadata", "file", "view"))


def _regions_of_version_3(document: Mapping[str, Any], choose: Choose) -> Iterator[tuple[Mapping[str, Any], object]]:
    """Each region of an image as earlier versions have it, and its attributes."""
    files = {str(file["fname"]): str(own) for own, file in document["file"].items()}
    image = files[choose(files)]
    views = {str(own) for own, view in document["view"].items() if [str(file) for file in view["fid_list"]] == [image]}
    for mark in document["metadata"].values():
        if str(mark["vid"]) in views and mark["xy"]:
            number, *values = mark["xy"]
            kind, names = _VERSION_3[number] if 0 < number < len(_VERSION_3) else (f"shape {number}", ())
            corners = {"all_points_x": values[::2], "all_points_y": values[1::2]}
            yield {"name": kind, **corners, **dict(zip(names, values, strict=False))}, mark.get("av")
