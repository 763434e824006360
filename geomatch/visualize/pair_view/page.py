"""The page that `geomatch view` writes: a static body, a script, and the match as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from torch import Tensor

from geomatch.correspondence import Correspondence, FeatureMap
from geomatch.visualize.colours import CONFIDENCE_RAMP, colour_wheel
from geomatch.visualize.markup import Markup, element
from geomatch.visualize.page import QUALITIES, data_uri, html_page, script_data
from geomatch.visualize.pair_view.compact import compact_descriptors, compact_match
from geomatch.visualize.sheet import to_picture

PICTURE_SIDE = 1200
"""At most this many pixels along a picture's longer side."""
PICTURE_BYTES = 500_000
"""Limit for one picture; base64 makes it a third larger."""


def view_page(
    names: Sequence[str],
    images: Sequence[Tensor],
    features: Sequence[FeatureMap],
    matches: Sequence[Correspondence],
    facts: Sequence[str],
) -> str:
    """An interactive HTML page: pointing at one image shows the match in the other.

    names, images, features: of source and target; images are (3, H, W) uint8, features those that were matched.
    matches: from source to target, and from target to source. facts: short texts about the match. Positions on the
    page are in pixels of the given images. The page loads nothing, has less than 5 MB, and depends on the arguments
    alone.
    """
    data = {
        "facts": list(facts),
        "ramp": CONFIDENCE_RAMP,
        "wheel": colour_wheel().tolist(),
        "images": [
            {
                "role": role,
                "name": name,
                "width": image.shape[2],
                "height": image.shape[1],
                "picture": _picture(image),
                "match": compact_match(match),
                "descriptors": descriptors,
            }
            for role, name, image, match, descriptors in zip(
                ("source", "target"), names, images, matches, compact_descriptors(*features), strict=True
            )
        ],
    }
    return html_page(
        " and ".join(names),
        Markup(_part("body.html")),
        element("script", script_data(data), id="data", type="application/json"),
        style=_part("view.css"),
        script=_part("view.js"),
    )


def _picture(image: Tensor) -> str:
    picture = to_picture(image)
    picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    return data_uri(picture, PICTURE_BYTES, (95, *QUALITIES))


def _part(name: str) -> str:
    return files("geomatch.visualize.pair_view").joinpath(name).read_text("utf-8")
