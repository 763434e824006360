"""The annotations of an image as one line of JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from geomatch.annotations import AnnotatedImage, Box, Instance, Keypoints, Region
from geomatch.io.annotations.coco import segmentation
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
            for k in np.flatnonzero(keypoints.present):
                x, y = keypoints.points[k].round(2).tolist()
                confidence = None if keypoints.confidence is None else round(float(keypoints.confidence[k]), 4)
                fields = {"confidence": confidence, "visibility": int(keypoints.visibility[k])}
                yield {**identity, "name": keypoints.names[k], "x": x, "y": y, **fields}
        case Region() as region:
            packed = segmentation(replace(region, encoding=MaskEncoding.packed_runs))
            area = int(region.mask.sum())
            yield {
                **identity,
                "box": list(region.box),
                "area": area,
                "segmentation": packed,
                **certainty,
            }
        case box:
            yield {**identity, "box": _rounded(box), **certainty}


def _rounded(box: Box) -> list[float]:
    return [round(side, 2) for side in box]
