"""Exports of Label Studio, JSON and JSON-MIN, read as labelme documents."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from geomatch.io.annotations.exports.shapes import Choose, Document, ellipse, labelme_document, rectangle, shape
from geomatch.io.annotations.omissions import Omissions
from geomatch.io.parsing import position

_KINDS = ("rectangle", "polygon", "keypoint", "ellipse", "brush")


def is_label_studio(document: object) -> bool:
    """Whether a document is a task, or a list of tasks."""
    tasks = document if isinstance(document, list) else [document]
    return bool(tasks) and all(isinstance(task, dict) and (_is_whole(task) or _is_short(task)) for task in tasks)


def read_label_studio(document: Any, choose: Choose, omissions: Omissions) -> Document:
    """One image of an export; ``omissions`` takes damaged results. Raises KeyError and the like for a damaged one.

    Of several annotations of the image the first that was not cancelled is read.
    """
    tasks = {_image_of(task): task for task in (document if isinstance(document, list) else [document])}
    task = tasks[choose(tasks)]
    results = _results(task, omissions) if _is_whole(task) else _short_results(task)
    labels = _labels(results)
    shapes: list[dict[str, Any]] = []
    regions: dict[object, Mapping[str, Any]] = {}  # one whose label is a result of its own is there twice
    for number, result in enumerate(results):
        if _is_region(result):
            regions.setdefault(result.get("id", number), result)
    drawn = list(regions.values())
    for number, result in enumerate(drawn, 1):
        with omissions.tolerated(f"result {result.get('id', number)}"):
            shapes += _shapes(result, labels)
    size = (drawn[0]["original_width"], drawn[0]["original_height"]) if drawn else ()
    return labelme_document(shapes, *size)


def _is_whole(task: Mapping[str, Any]) -> bool:
    marks = task.get("annotations", task.get("completions", task.get("predictions")))
    return isinstance(task.get("data"), dict) and isinstance(marks, list)


def _is_short(task: Mapping[str, Any]) -> bool:
    return any(_is_region(each) for value in task.values() if isinstance(value, list) for each in value)


def _is_region(value: object) -> bool:
    return isinstance(value, dict) and {"original_width", "original_height"} <= value.keys()


def _image_of(task: Mapping[str, Any]) -> str:
    """The name of a task's image; "" if there is none."""
    texts = [value for value in {**task, **(task.get("data") or {})}.values() if isinstance(value, str)]
    local = [parse_qs(urlsplit(text).query).get("d", [""])[0] for text in texts]  # /data/local-files/?d=folder/a.jpg
    return next(filter(None, [*local, *(urlsplit(text).path for text in texts if "/" in text)]), "")


def _results(task: Mapping[str, Any], omissions: Omissions) -> Sequence[Mapping[str, Any]]:
    marks = [each for each in task.get("annotations", task.get("completions")) or [] if not each.get("was_cancelled")]
    if not marks and (marks := task.get("predictions") or []):
        omissions.assumed("it has predictions alone, and they are read")
    if len(marks) > 1:
        omissions.assumed(f"of {len(marks)} annotations of one image the first is read")
    return marks[0]["result"] if marks else []


def _short_results(task: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    regions = (each for value in task.values() if isinstance(value, list) for each in value if _is_region(each))
    return [{**region, "value": region} for region in regions]


def _labels(results: Sequence[Mapping[str, Any]]) -> dict[object, object]:
    """The labels of regions that have them in a result of its own, by the regions' identifiers."""
    return {each.get("id"): label for each in results if (label := _label(each.get("value") or {})) is not None}


def _label(value: Mapping[str, Any]) -> object:
    given = [value.get(key) for key in (*(f"{kind}labels" for kind in _KINDS), "labels")]
    return next((each[0] for each in given if isinstance(each, list) and each), None)


def _shapes(result: Mapping[str, Any], labels: Mapping[object, object]) -> Iterator[dict[str, Any]]:
    """The shape of a result: its numbers are per cent of the image's sides. Raises KeyError and ValueError."""
    value = result["value"]
    label = _label(value) or labels.get(result.get("id"))
    across, down = position(result["original_width"]) / 100, position(result["original_height"]) / 100
    if "points" in value:
        corners = [(position(x) * across, position(y) * down) for x, y in value["points"]]
        yield shape("polygon", label, corners)
        return
    if "x" not in value:
        if "format" in value:
            yield shape("brush", label, [])
        return
    x, y, turn = position(value["x"]) * across, position(value["y"]) * down, value.get("rotation") or 0
    if "radiusX" in value:
        radii = position(value["radiusX"]) * across, position(value["radiusY"]) * down
        yield ellipse(label, x, y, *radii, math.radians(position(turn)))
    elif "height" in value:
        yield rectangle(label, x, y, position(value["width"]) * across, position(value["height"]) * down, turn)
    elif (owner := result.get("parentID")) in labels:
        yield shape("point", label, [(x, y)], group_id=owner, object=labels[owner])
    else:
        yield shape("point", label, [(x, y)])
