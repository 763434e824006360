"""Writing labels of YOLO: a file for each image, and one that says what their numbers mean.

The format: https://docs.ultralytics.com/datasets/pose/ and https://docs.ultralytics.com/datasets/detect/. A line is
``class x y width height``, the middle and the size of a box as shares of the image's sides; in a pose
``x y visibility`` of each keypoint follow. It has no place for a confidence.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from geomatch.annotations import (
    AnnotatedImage,
    Annotations,
    Box,
    Category,
    Instance,
    Keypoints,
    Region,
    mirror_partners,
)
from geomatch.io.annotations.coco import HALF
from geomatch.options import AnnotationKind

_LEAST_SIDE = 1.0  # pixels; training leaves out boxes without area


def encode_yolo(image: AnnotatedImage, reference: Annotations) -> bytes:
    """The labels of an image: boxes, or poses with as many keypoints as the category that has most; absent ones are 0.

    Classes are numbered from 0, in the order of the reference's categories.
    """
    names = [category.name for category in reference.categories]
    count = max((len(category.keypoints) for category in reference.categories), default=0)
    lines = []
    for instance in image.instances:
        number = names.index(instance.label)
        lines.append(" ".join((str(number), *_numbers(instance, reference.categories[number], image.size, count))))
    return "".join(f"{line}\n" for line in lines).encode()


def encode_yolo_data(reference: Annotations, kind: AnnotationKind) -> bytes:
    """The data file of a folder ``labels`` that lies beside a folder ``images``: names of classes and of keypoints."""
    lines = ["train: ../images", "val: ../images", "names:"]
    lines += [f"  {number}: {_text(category.name)}" for number, category in enumerate(reference.categories)]
    if kind is AnnotationKind.keypoints:
        count = max((len(category.keypoints) for category in reference.categories), default=0)
        lines.append(f"kpt_shape: [{count}, 3]")
        if flipped := _flipped_places(reference.categories, count):
            lines.append(f"flip_idx: {flipped}")
        lines.append("kpt_names:")
        for number, category in enumerate(reference.categories):
            lines += [f"  {number}:", *(f"    - {_text(name)}" for name in category.keypoints)]
    return "".join(f"{line}\n" for line in lines).encode()


def _flipped_places(categories: Sequence[Category], count: int) -> list[int] | None:
    """Which keypoint each of ``count`` is on a flipped image, as names say it; all classes share the list.

    None if no names tell the sides apart, or classes contradict each other: without the list, YOLO flips no image.
    """
    partners = [mirror_partners(category.keypoints) for category in categories]
    if not any(partners):
        return None
    said: dict[int, set[int]] = {place: set() for place in range(count)}
    for category, own in zip(categories, partners, strict=True):
        for place, partner in enumerate(own or range(len(category.keypoints))):
            said[place].add(partner)
    return None if any(len(each) > 1 for each in said.values()) else [each.pop() for each in said.values()]


def _numbers(instance: Instance, category: Category, size: tuple[int, int], count: int) -> Iterator[str]:
    height, width = size
    match instance.shape:
        case Keypoints() as keypoints:
            yield from _box_numbers(keypoints.extent, width, height)
            found = {name: (position, seen) for name, position, seen, _ in keypoints.rounded()}
            for name in category.keypoints:
                (x, y), seen = found.get(name, ([-HALF, -HALF], 0))
                yield from (_share(x + HALF, width), _share(y + HALF, height), str(seen))
            for _ in range(count - len(category.keypoints)):
                yield from (_share(0, width), _share(0, height), "0")
        case Region():
            raise TypeError("masks are not written as YOLO's labels")
        case box:
            yield from _box_numbers(box, width, height)


def _box_numbers(box: Box, width: int, height: int) -> Iterator[str]:
    left, top, right, bottom = box
    yield from (_share((left + right) / 2 + HALF, width), _share((top + bottom) / 2 + HALF, height))
    yield from (_share(max(right - left, _LEAST_SIDE), width), _share(max(bottom - top, _LEAST_SIDE), height))


def _share(length: float, side: int) -> str:
    return f"{min(max(length / side, 0), 1):.6f}"


def _text(name: str) -> str:
    """A name as YAML has it, which takes JSON's texts."""
    return json.dumps(name)
