"""Writing tasks of Label Studio; `exports.label_studio` reads them.

The format: https://labelstud.io/guide/predictions. Annotations that were transferred are predictions, which people
accept or correct there. Positions are per cent of the image's sides, from the upper left corner of the first pixel. A
labelling configuration for them names its controls ``keypoints``, ``polygons`` and ``boxes``, and its image ``image``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from geomatch import __version__
from geomatch.annotations import AnnotatedImage, Box, Instance, Keypoints, Region
from geomatch.io.annotations.coco import HALF
from geomatch.io.annotations.polygons import trace
from geomatch.io.json_text import json_text

_LOCAL_FILES = "/data/local-files/?d="
_POINT_WIDTH = 0.5
"""Per cent of the image's width, at which Label Studio draws a point."""


class LabelStudioDocument:
    """A list of tasks, one for each image; it takes annotations in any order and lists them by number.

    The points of an instance belong to its box by ``parentID``.
    """

    def __init__(self) -> None:
        self._tasks: dict[int, dict[str, Any]] = {}

    def add(self, number: int, image: AnnotatedImage) -> None:
        results = [result for instance in image.instances for result in _results(instance, image.size)]
        prediction = {"model_version": f"geomatch {__version__}", "score": image.confidence, "result": results}
        name = quote(image.name, errors="surrogateescape")
        self._tasks[number] = {"data": {"image": _LOCAL_FILES + name}, "predictions": [prediction]}

    def content(self) -> bytes:
        return json_text([self._tasks[number] for number in sorted(self._tasks)]).encode() + b"\n"


def _results(instance: Instance, size: tuple[int, int]) -> Iterator[dict[str, Any]]:
    """The regions of an instance; of keypoints first their box."""
    height, width = size
    own = f"object-{instance.number}"
    score = {} if instance.confidence is None else {"score": instance.confidence}
    match instance.shape:
        case Keypoints() as keypoints:
            yield _result(own, "rectanglelabels", "boxes", size, _box(keypoints.extent, size), instance.label) | score
            for place, (name, (x, y), _, confidence) in enumerate(keypoints.rounded(), 1):
                value = {"x": _share(x, width), "y": _share(y, height), "width": _POINT_WIDTH}
                point = _result(f"{own}-{place}", "keypointlabels", "keypoints", size, value, name)
                yield point | {"parentID": own} | ({} if confidence is None else {"score": confidence})
        case Region() as region:
            for place, polygon in enumerate(trace(region.mask), 1):
                corners = [[_share(x, width), _share(y, height)] for x, y in polygon.tolist()]
                outline = {"points": corners, "closed": True}
                yield _result(f"{own}-{place}", "polygonlabels", "polygons", size, outline, instance.label) | score
        case box:
            yield _result(own, "rectanglelabels", "boxes", size, _box(box, size), instance.label) | score


def _result(
    own: str, kind: str, control: str, size: tuple[int, int], value: dict[str, Any], label: str
) -> dict[str, Any]:
    return {
        "id": own,
        "type": kind,
        "from_name": control,
        "to_name": "image",
        "original_width": size[1],
        "original_height": size[0],
        "image_rotation": 0,
        "value": {**value, kind: [label]},
    }


def _box(box: Box, size: tuple[int, int]) -> dict[str, Any]:
    (left, top, right, bottom), (height, width) = box, size
    extent = {"width": _per_cent(right - left, width), "height": _per_cent(bottom - top, height), "rotation": 0}
    return {"x": _share(left, width), "y": _share(top, height), **extent}


def _share(at: float, side: int) -> float:
    """A position along a side of so many pixels, in per cent."""
    return _per_cent(at + HALF, side)


def _per_cent(length: float, side: int) -> float:
    return round(100 * length / side, 4)
