"""HTML pages: they load nothing from elsewhere, follow the light or dark theme, and fit wide and narrow screens."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from io import BytesIO

from PIL import Image

from geomatch.visualize.markup import Markup, element

QUALITIES = (84, 72, 60, 45)
_SMALLEST = 64
"""Pixels: pictures with a shorter side than twice this are not reduced."""

THEME = files("geomatch.visualize").joinpath("theme.css").read_text("utf-8").strip()
"""The style sheet of all pages."""


def html_page(title: str, *content: Markup, style: str = "", script: str = "", linked_pictures: bool = False) -> str:
    """An HTML page of ``content`` with `THEME`, the style sheet ``style`` and the JavaScript module ``script``.

    Its content security policy forbids running any other script, and loading anything but, with ``linked_pictures``,
    pictures that lie beside the page.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(script, linked_pictures=linked_pictures)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("link", rel="icon", href="data:,"),  # without it browsers ask the server for one
        element("title", f"{title} · geomatch"),
        element("style", Markup("\n".join(filter(None, (THEME, style))))),
    )
    body = element("body", *content, *([element("script", Markup(script), type="module")] if script else []))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def data_uri(picture: Image.Image, limit: int, qualities: Sequence[int] = QUALITIES) -> str:
    """A picture as WebP in a data URI, at most ``limit`` bytes where possible: quality is lowered first, then size."""
    for quality in qualities:
        buffer = BytesIO()
        picture.save(buffer, "WEBP", quality=quality)
        if buffer.tell() <= limit:
            break
    else:
        if min(picture.size) >= 2 * _SMALLEST:
            return data_uri(picture.reduce(2), limit, qualities)
    return f"data:image/webp;base64,{b64encode(buffer.getvalue()).decode()}"


def script_data(data: object) -> Markup:
    """Data as JSON without "<", so that no file name in it can end the script element."""
    return Markup(json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"))


def _policy(script: str, *, linked_pictures: bool) -> str:
    digest = b64encode(sha256(script.encode()).digest()).decode()
    scripts = f"'sha256-{digest}'" if script else "'none'"
    pictures = "data: 'self' file:" if linked_pictures else "data:"  # from a disk 'self' need not match
    return (
        f"default-src 'none'; img-src {pictures}; style-src 'unsafe-inline'; script-src {scripts}; "
        "base-uri 'none'; form-action 'none'"
    )
