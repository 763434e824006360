"""The page that `geomatch view` writes: a static body, a script, and the match as data beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files

from torch import Tensor

from geomatch.correspondence import Correspondence, FeatureMap
from geomatch.visualize.flow_colours import colour_wheel
from geomatch.visualize.markup import Markup, element
from geomatch.visualize.overview import CONFIDENCE_RAMP, to_picture
from geomatch.visualize.page import QUALITIES, data_uri, html_page
from geomatch.visualize.pair_view.compact import compact_descriptors, compact_match

PICTURE_SIDE = 1200
"""Pixels of a picture's longer side on the page, at most."""
PICTURE_BYTES = 500_000
"""Of one picture, at most; as text in the page it takes a third more."""


def view_page(
    names: Sequence[str],
    images: Sequence[Tensor],
    features: Sequence[FeatureMap],
    matches: Sequence[Correspondence],
    facts: Sequence[str],
) -> str:
    """A page on which a place in one image shows its match in the other. It loads nothing from anywhere.

    names, images, features: of source and target; images (3, H, W) uint8, features those that were matched. matches: of
    the source in the target, and of the target in the source. facts: short texts about the match. All positions on the
    page are in pixels of the images as given. The page has less than 5 MB. The same arguments give the same page.
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
        element("script", _script_data(data), id="data", type="application/json"),
        style=_part("view.css"),
        script=_part("view.js"),
    )


def _picture(image: Tensor) -> str:
    picture = to_picture(image)
    picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    return data_uri(picture, PICTURE_BYTES, (95, *QUALITIES))


def _script_data(data: object) -> Markup:
    """Data as JSON that no name in it can end the script element of."""
    return Markup(json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"))


def _part(name: str) -> str:
    return files("geomatch.visualize.pair_view").joinpath(name).read_text("utf-8")
