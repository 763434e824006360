"""The annotations of an image as one line of JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from geomatch.annotations import AnnotatedImage, Instance, Keypoints, Region
from geomatch.io.annotations.writers.coco import segmentation
from geomatch.options import MaskEncoding


def annotation_record(image: AnnotatedImage) -> dict[str, Any]:
    """An image and its items, ready for JSON: each keypoint, mask or box with confidence and visibility.

    Positions are in geomatch's frame: pixels with centres at integers.
    """
    items = [item for instance in image.instances for item in _items(instance)]
    height, width = image.size
    return {
        "image": image.name,
        "width": width,
        "height": height,
        "confidence": round(image.confidence, 4),
        "items": items,
    }


def _items(instance: Instance) -> Iterator[dict[str, Any]]:
    identity = {"object": instance.number, "label": instance.label}
    certainty = {"confidence": instance.confidence, "visibility": int(instance.visibility)}
    match instance.shape:
        case Keypoints() as keypoints:
            for name, (x, y), visibility, confidence in keypoints.rounded():
                yield {**identity, "name": name, "x": x, "y": y, "confidence": confidence, "visibility": visibility}
        case Region() as region:
            packed = segmentation(replace(region, encoding=MaskEncoding.packed_runs))
            mask = {"box": list(region.box), "area": int(region.mask.sum()), "segmentation": packed}
            yield {**identity, **mask, **certainty}
        case box:
            yield {**identity, "box": [round(side, 2) for side in box], **certainty}
