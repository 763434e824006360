"""Writing CVAT's XML, "CVAT for images 1.1"; `exports.xml_files` reads it.

The format: https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/. Positions are measured from the upper
left corner of the first pixel. It has no place for a confidence.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from geomatch.annotations import AnnotatedImage, Annotations, Instance, Keypoints, Region, Visibility
from geomatch.errors import printable
from geomatch.io.annotations.coco import HALF

_COMMON = {"source": "auto", "z_order": "0"}


class CvatDocument:
    """A document of annotations that are transferred to images; it takes them in any order and lists them by number.

    Keypoints are skeletons with all points of their category, masks are masks, boxes are boxes. What is guessed is
    occluded.
    """

    def __init__(self, reference: Annotations) -> None:
        self._points = {category.name: category.keypoints for category in reference.categories}
        self._images: dict[int, ET.Element] = {}

    def add(self, number: int, image: AnnotatedImage) -> None:
        height, width = image.size
        entry = ET.Element("image", name=printable(image.name), width=str(width), height=str(height))
        entry.extend(self._element(instance) for instance in image.instances)
        self._images[number] = entry

    def content(self) -> bytes:
        root = ET.Element("annotations")
        ET.SubElement(root, "version").text = "1.1"
        for place, (_, entry) in enumerate(sorted(self._images.items())):
            entry.set("id", str(place))
            root.append(entry)
        ET.indent(root)
        return b'<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root) + b"\n"

    def _element(self, instance: Instance) -> ET.Element:
        about = {"label": printable(instance.label), **_COMMON}
        occluded = {"occluded": "0" if instance.visibility is Visibility.seen else "1"}
        match instance.shape:
            case Keypoints() as keypoints:
                skeleton = ET.Element("skeleton", about)
                skeleton.extend(_points(keypoints, self._points[instance.label]))
                return skeleton
            case Region() as region:
                return ET.Element("mask", about | occluded | _mask(region.mask))
            case left, top, right, bottom:
                sides = {"xtl": left, "ytl": top, "xbr": right, "ybr": bottom}
                return ET.Element("box", about | occluded | {name: f"{at + HALF:.2f}" for name, at in sides.items()})


def _points(keypoints: Keypoints, names: tuple[str, ...]) -> Iterator[ET.Element]:
    """The points of a skeleton, which has all of its label's; those that are absent are outside."""
    found = {name: (position, seen) for name, position, seen, _ in keypoints.rounded()}
    for name in dict.fromkeys((*names, *keypoints.names)):
        (x, y), seen = found.get(name, ([-HALF, -HALF], Visibility.absent))
        state = {"outside": str(int(seen == Visibility.absent)), "occluded": str(int(seen == Visibility.guessed))}
        at = {"points": f"{x + HALF:.2f},{y + HALF:.2f}"}
        yield ET.Element("points", {"label": printable(name), "source": "auto"} | state | at)


def _mask(mask: NDArray[np.bool_]) -> dict[str, str]:
    """A mask as the lengths of its runs along the rows of its box, outside first."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    changes = np.flatnonzero(np.diff(inside.ravel(), prepend=False)).tolist()
    runs = np.diff([0, *changes, inside.size]).tolist()
    box = {"left": columns[0], "top": rows[0], "width": inside.shape[1], "height": inside.shape[0]}
    return {"rle": ", ".join(map(str, runs))} | {name: str(value) for name, value in box.items()}
