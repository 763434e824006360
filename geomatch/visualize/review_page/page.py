"""The page that `geomatch transfer --review` writes: a static body, a script, and the annotations as JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from torch import Tensor

from geomatch import __version__
from geomatch.annotations import AnnotatedImage, Annotations, Region
from geomatch.io.annotations.labelme import VERSION
from geomatch.io.annotations.records import annotation_record
from geomatch.io.annotations.rle import decode_runs, unpack_runs
from geomatch.io.annotations.writers.coco import segmentation
from geomatch.io.json_text import json_text
from geomatch.options import AnnotationKind, MaskEncoding
from geomatch.visualize.colours import Colour, keypoint_colours
from geomatch.visualize.markup import Markup, element
from geomatch.visualize.page import data_uri, html_page, script_data
from geomatch.visualize.sheet import fit_photograph

REFERENCE_SIDE = 480
"""At most this many pixels along a side of the reference's picture."""
REFERENCE_BYTES = 60_000

Entry = dict[str, Any]
"""An image of the page, or a reference, ready for JSON."""


def review_entry(
    record: Mapping[str, Any], marks: Annotations, *, number: int, stem: str, path: str, picture: str, reference: str
) -> Entry:
    """An image of the page, made of its record alone, see `annotation_record`.

    Args:
        record: what was found on the image.
        marks: what was transferred to it.
        number: its place in the list of images.
        stem: the name of its labelme file, without suffix.
        path: what that file calls the image.
        picture: the image's photograph, relative to the page.
        reference: the name of the image that is shown beside it.
    """
    entry = {
        **{key: record[key] for key in ("image", "width", "height", "confidence")},
        "items": _page_items(record, marks),
        "stem": stem,
        "path": path,
        "picture": quote(os.fsencode(picture)),
    }
    # Corrections are stored by this key, which neither a longer list of images nor another reference changes.
    key = sha256(json_text(entry).encode()).hexdigest()[:16]
    return entry | {"number": number, "key": key, "reference": reference}


def review_reference(pixels: Tensor, reference: AnnotatedImage, marks: Annotations) -> Entry:
    """An annotated image, with pixels (3, H, W) uint8, that the page shows beside those to correct.

    marks: the annotations of the reference, or what those of all references have in common.
    """
    record = annotation_record(reference)
    picture = data_uri(fit_photograph(pixels, (REFERENCE_SIDE, REFERENCE_SIDE)), REFERENCE_BYTES)
    return record | {"items": _page_items(record, marks), "picture": picture}


def review_page(
    references: Mapping[str, Entry], marks: Annotations, kind: AnnotationKind, entries: Sequence[Entry]
) -> str:
    """An HTML page to correct transferred annotations on, image by image in the order given.

    references: those that `entries` name. marks: what was transferred, of one ``kind``. The page loads nothing but the
    images' photographs, and depends on the arguments alone.
    """
    points = {each.name: _css(keypoint_colours(len(each.keypoints))) for each in marks.categories}
    data = {
        "kind": kind.value,
        "versions": {"geomatch": __version__, "labelme": VERSION},
        "categories": [asdict(category) for category in marks.categories],
        "objects": [{"object": each.number, "label": each.label} for each in marks.instances],
        "colours": {"points": points, "objects": _css(keypoint_colours(max(8, len(marks.instances))))},
        "references": references,
        "images": entries,
    }
    return html_page(
        "review",
        Markup(_part("body.html")),
        element("script", script_data(data), id="data", type="application/json"),
        style=_part("page.css"),
        script=_part("save.js") + _part("page.js"),
        linked_pictures=True,
    )


def _page_items(record: Mapping[str, Any], marks: Annotations) -> list[dict[str, Any]]:
    """The items of a record, masks as COCO writes them and with the polygons that labelme's file has."""
    encodings = {each.number: each.shape.encoding for each in marks.instances if isinstance(each.shape, Region)}
    return [
        item | _masks(item["segmentation"], encodings[item["object"]]) if "segmentation" in item else item
        for item in record["items"]
    ]


def _masks(packed: Mapping[str, Any], encoding: MaskEncoding) -> dict[str, object]:
    height, width = packed["size"]
    mask = decode_runs(unpack_runs(packed["counts"]), (height, width))
    polygons = segmentation(Region(mask))
    return {"polygons": polygons, "segmentation": segmentation(Region(mask, encoding))}


def _css(colours: Sequence[Colour]) -> list[str]:
    return ["#" + bytes(colour[:3]).hex() for colour in colours]


def _part(name: str) -> str:
    return files("geomatch.visualize.review_page").joinpath(name).read_text("utf-8")
