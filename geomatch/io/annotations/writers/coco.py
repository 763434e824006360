"""Writing COCO documents; `coco` reads them.

Half a pixel is added to polygons and boxes, which COCO measures from the upper left corner of the first pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from geomatch import __version__
from geomatch.annotations import AnnotatedImage, Annotations, Box, Category, Instance, Keypoints, Region
from geomatch.io.annotations.coco import HALF
from geomatch.io.annotations.polygons import trace
from geomatch.io.annotations.rle import encode_runs, pack_runs
from geomatch.io.json_text import json_text
from geomatch.options import MaskEncoding


class CocoDocument:
    """A document of annotations that are transferred to images; it takes them in any order and lists them by number."""

    def __init__(self, reference: Annotations) -> None:
        self._categories = {category.name: category for category in reference.categories}
        self._images: dict[int, dict[str, Any]] = {}
        self._annotations: dict[int, list[dict[str, Any]]] = {}

    def add(self, number: int, image: AnnotatedImage) -> None:
        height, width = image.size
        self._annotations[number] = [
            {
                "category_id": self._categories[instance.label].id,
                "iscrowd": 0,
                "score": instance.confidence,
                "visibility": int(instance.visibility),
                **self._fields(instance),
            }
            for instance in image.instances
        ]
        self._images[number] = {"file_name": image.name, "width": width, "height": height}

    def content(self) -> bytes:
        numbers = sorted(self._images)
        annotations = [(place, each) for place, number in enumerate(numbers, 1) for each in self._annotations[number]]
        document = {
            "info": {"description": f"transferred by geomatch {__version__}"},
            "images": [{"id": place, **self._images[number]} for place, number in enumerate(numbers, 1)],
            "annotations": [{"id": own, "image_id": place, **each} for own, (place, each) in enumerate(annotations, 1)],
            "categories": [_write_category(category) for category in self._categories.values()],
        }
        return json_text(document).encode() + b"\n"

    def _fields(self, instance: Instance) -> dict[str, Any]:
        match instance.shape:
            case Keypoints() as keypoints:
                return _keypoint_fields(keypoints, self._categories[instance.label].keypoints)
            case Region() as region:
                area = int(region.mask.sum())
                return {"segmentation": segmentation(region), "area": area, **_box_fields(region.box)}
            case box:
                return {"area": round((box[2] - box[0]) * (box[3] - box[1]), 2), **_box_fields(box)}


def segmentation(region: Region) -> object:
    """A mask as COCO writes it: polygons as lists x, y, x, y ..., or runs, as a list or packed into a text."""
    if region.encoding is MaskEncoding.polygons:
        return [[round(float(axis), 2) for axis in (polygon + HALF).ravel()] for polygon in trace(region.mask)]
    runs = encode_runs(region.mask)
    packed = region.encoding is MaskEncoding.packed_runs
    return {"size": list(region.mask.shape), "counts": pack_runs(runs) if packed else runs}


def _write_category(category: Category) -> dict[str, Any]:
    fields = {"id": category.id, "name": category.name}
    if category.keypoints:
        fields |= {"keypoints": category.keypoints, "skeleton": category.skeleton}
    return fields


def _keypoint_fields(keypoints: Keypoints, names: Sequence[str]) -> dict[str, Any]:
    """Triples in the category's order, 0, 0, 0 for absent points. Area and box are the points' extent, as pycocotools
    has them for results."""
    found = {name: (position, visibility, score) for name, position, visibility, score in keypoints.rounded()}
    triples: list[float] = []
    scores: list[float] = []
    for name in names:
        position, visibility, score = found.get(name, ([0, 0], 0, None))
        triples += [*position, visibility]
        scores.append(0 if score is None else score)
    left, top, right, bottom = keypoints.extent
    area = round((right - left) * (bottom - top), 2)
    fields = {"keypoints": triples, "num_keypoints": len(found), "keypoint_scores": scores, "area": area}
    return fields | _box_fields(keypoints.extent)


def _box_fields(box: Box) -> dict[str, Any]:
    left, top, right, bottom = box
    return {"bbox": [round(each, 2) for each in (left + HALF, top + HALF, right - left, bottom - top)]}
