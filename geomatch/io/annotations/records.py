"""What is marked on an image as one line of JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from geomatch.annotations import AnnotatedImage, Box, Keypoints, Region, Thing
from geomatch.io.annotations.coco import segmentation
from geomatch.options import MaskEncoding


def annotation_record(image: AnnotatedImage) -> dict[str, Any]:
    """An image and its items: every keypoint, mask or box, with confidence and visibility, in geomatch's frame."""
    items = [item for thing in image.things for item in _items(thing)]
    height, width = image.size
    return {
        "image": image.name,
        "width": width,
        "height": height,
        "confidence": round(image.confidence, 4),
        "items": items,
    }


def _items(thing: Thing) -> Iterator[dict[str, Any]]:
    whose = {"object": thing.number, "label": thing.label}
    surety = {"confidence": thing.confidence, "visibility": int(thing.visibility)}
    match thing.shape:
        case Keypoints() as keypoints:
            for k in np.flatnonzero(keypoints.present):
                x, y = keypoints.points[k].round(2).tolist()
                confidence = None if keypoints.confidence is None else round(float(keypoints.confidence[k]), 4)
                sure = {"confidence": confidence, "visibility": int(keypoints.visibility[k])}
                yield {**whose, "name": keypoints.names[k], "x": x, "y": y, **sure}
        case Region() as region:
            packed = segmentation(replace(region, encoding=MaskEncoding.packed_runs))
            area = int(region.mask.sum())
            yield {**whose, "box": list(region.box), "area": area, "segmentation": packed, **surety}
        case box:
            yield {**whose, "box": _rounded(box), **surety}


def _rounded(box: Box) -> list[float]:
    return [round(side, 2) for side in box]
